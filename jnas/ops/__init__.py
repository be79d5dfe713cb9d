"""Operators: what they compute, what they cost, and fast forms of them.

`table` has one row an operator, `plain` says what it computes, and `backend`
chooses how, for the devices that a program is built for.
"""
