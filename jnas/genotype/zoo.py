"""Published cells, in the text form in which the field pastes them around.

Operators and inputs are facts published by the authors; the comment above each
cell names the repository they come from. This module holds nothing but text,
so it can be read (and copied from) without the others; `sources` parses it.
"""

# Cells of image networks: two (operator, input) pairs a node.
IMAGES = {
  # quark0/darts
  "DARTS_V1": """Genotype(
    normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0),
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 0), ('skip_connect', 2)],
    normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('skip_connect', 2), ('max_pool_3x3', 0),
            ('max_pool_3x3', 0), ('skip_connect', 2),
            ('skip_connect', 2), ('avg_pool_3x3', 0)],
    reduce_concat=range(2, 6))""",
  # quark0/darts
  "DARTS_V2": """Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0),
            ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2),
            ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=range(2, 6))""",
  # chenxin061/pdarts
  "PDARTS": """Genotype(
    normal=[('skip_connect', 0), ('dil_conv_3x3', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3),
            ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)],
    normal_concat=range(2, 6),
    reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1),
            ('sep_conv_3x3', 0), ('dil_conv_5x5', 2),
            ('max_pool_3x3', 0), ('dil_conv_3x3', 1),
            ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)],
    reduce_concat=range(2, 6))""",
  # yuhuixu1993/PC-DARTS
  "PC_DARTS_cifar": """Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 0),
            ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 1),
            ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0),
            ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 3),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)],
    reduce_concat=range(2, 6))""",
  # yuhuixu1993/PC-DARTS
  "PC_DARTS_image": """Genotype(
    normal=[('skip_connect', 1), ('sep_conv_3x3', 0),
            ('sep_conv_3x3', 0), ('skip_connect', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3),
            ('sep_conv_3x3', 1), ('dil_conv_5x5', 4)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_3x3', 0), ('skip_connect', 1),
            ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 2), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 3)],
    reduce_concat=range(2, 6))""",
  # quark0/darts
  "NASNet": """Genotype(
    normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
            ('avg_pool_3x3', 1), ('skip_connect', 0),
            ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),
            ('sep_conv_3x3', 1), ('skip_connect', 1)],
    normal_concat=range(2, 7),
    reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0),
            ('max_pool_3x3', 1), ('sep_conv_7x7', 0),
            ('avg_pool_3x3', 1), ('sep_conv_5x5', 0),
            ('skip_connect', 3), ('avg_pool_3x3', 2),
            ('sep_conv_3x3', 2), ('max_pool_3x3', 1)],
    reduce_concat=range(4, 7))""",
  # quark0/darts
  "AmoebaNet": """Genotype(
    normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('avg_pool_3x3', 3),
            ('sep_conv_3x3', 1), ('skip_connect', 1),
            ('skip_connect', 0), ('avg_pool_3x3', 1)],
    normal_concat=range(4, 7),
    reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1),
            ('max_pool_3x3', 0), ('sep_conv_7x7', 2),
            ('sep_conv_7x7', 0), ('avg_pool_3x3', 1),
            ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)],
    reduce_concat=[3, 4, 6])""",
  # D-X-Y/GDAS@3ebbf88
  "GDAS_V1": """Genotype(
    normal=[('skip_connect', 0), ('skip_connect', 1),
            ('skip_connect', 0), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 3), ('skip_connect', 0),
            ('sep_conv_5x5', 4), ('sep_conv_3x3', 3)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_5x5', 0), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 2), ('sep_conv_5x5', 1),
            ('dil_conv_5x5', 2), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_5x5', 1)],
    reduce_concat=range(2, 6))""",
  # D-X-Y/GDAS@3ebbf88
  "GDAS_F1": """Genotype(
    normal=[('skip_connect', 0), ('skip_connect', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 2),
            ('skip_connect', 0), ('sep_conv_3x3', 2),
            ('skip_connect', 0), ('sep_conv_3x3', 2)],
    normal_concat=range(2, 6),
    reduce=None,
    reduce_concat=range(2, 6))""",
  # D-X-Y/GDAS@3ebbf88
  "GDAS_FG": """Genotype(
    normal=[('skip_connect', 0), ('skip_connect', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 2),
            ('skip_connect', 0), ('sep_conv_3x3', 2),
            ('skip_connect', 0), ('sep_conv_3x3', 2)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_5x5', 0), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 2), ('sep_conv_5x5', 1),
            ('dil_conv_5x5', 2), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_5x5', 1)],
    reduce_concat=range(2, 6))""",
  # D-X-Y/GDAS@3ebbf88
  "GDAS_GF": """Genotype(
    normal=[('skip_connect', 0), ('skip_connect', 1),
            ('skip_connect', 0), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 3), ('skip_connect', 0),
            ('sep_conv_5x5', 4), ('sep_conv_3x3', 3)],
    normal_concat=range(2, 6),
    reduce=None,
    reduce_concat=range(2, 6))""",
  # D-X-Y/GDAS@3ebbf88
  "PNASNet": """Genotype(
    normal=[('sep_conv_5x5', 0), ('max_pool_3x3', 0),
            ('sep_conv_7x7', 1), ('max_pool_3x3', 1),
            ('sep_conv_5x5', 1), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 4), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 0), ('skip_connect', 1)],
    normal_concat=range(2, 7),
    reduce=[('sep_conv_5x5', 0), ('max_pool_3x3', 0),
            ('sep_conv_7x7', 1), ('max_pool_3x3', 1),
            ('sep_conv_5x5', 1), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 4), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 0), ('skip_connect', 1)],
    reduce_concat=range(2, 7))""",
  # D-X-Y/GDAS@3ebbf88
  "ENASNet": """Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 1),
            ('sep_conv_5x5', 1), ('skip_connect', 0),
            ('avg_pool_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 0), ('avg_pool_3x3', 1),
            ('sep_conv_5x5', 1), ('avg_pool_3x3', 0)],
    normal_concat=range(2, 7),
    reduce=[('sep_conv_5x5', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('avg_pool_3x3', 1),
            ('sep_conv_3x3', 1), ('avg_pool_3x3', 1),
            ('avg_pool_3x3', 1), ('sep_conv_5x5', 4),
            ('sep_conv_3x3', 5), ('sep_conv_5x5', 0)],
    reduce_concat=range(2, 7))""",
  # D-X-Y/AutoDL-Projects
  "SETN": """Genotype(
    normal=[('skip_connect', 0), ('sep_conv_5x5', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 1), ('sep_conv_5x5', 3),
            ('max_pool_3x3', 1), ('conv_3x1_1x3', 4)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_3x3', 0), ('sep_conv_5x5', 1),
            ('avg_pool_3x3', 0), ('sep_conv_5x5', 1),
            ('avg_pool_3x3', 0), ('sep_conv_5x5', 1),
            ('avg_pool_3x3', 0), ('skip_connect', 1)],
    reduce_concat=range(2, 6))""",
}

# Recurrent cells: one (activation, input) pair a node.
RECURRENT = {
  "DARTS_V1": """Genotype(
    recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3),
               ('relu', 4), ('identity', 1), ('relu', 5), ('relu', 1)],
    concat=range(1, 9))""",
  "DARTS_V2": """Genotype(
    recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1),
               ('tanh', 2), ('sigmoid', 5), ('tanh', 3), ('relu', 5)],
    concat=range(1, 9))""",
  "GDAS": """Genotype(
    recurrent=[('relu', 0), ('relu', 0), ('identity', 1), ('relu', 1),
               ('tanh', 0), ('relu', 2), ('identity', 4), ('identity', 2)],
    concat=range(1, 9))""",
  "ENAS": """Genotype(
    recurrent=[('tanh', 0), ('tanh', 1), ('relu', 1), ('tanh', 3),
               ('tanh', 3), ('relu', 3), ('relu', 4), ('relu', 7),
               ('relu', 8), ('relu', 8), ('relu', 8)],
    concat=[2, 5, 6, 9, 10, 11])""",
}
