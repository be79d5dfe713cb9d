"""Arrays in, batches out.

sources   `load(name, path)`: any supported image data set as numpy arrays
archives  reading folders, tar files and pickles that are not to be trusted
augment   crop, flip, normalisation and cutout, inside the jitted step
autoaugment `apply(key, image)`: the CIFAR-10 policy of AutoAugment
device    the whole data set on the device; batches chosen inside the step
benchmark `load(path)`: the known accuracy of every cell of a space
"""
