"""Arrays in, batches out.

sources   `load(name, path)`: any supported image data set as numpy arrays
own       data of one's own: a function that returns arrays
files     images that stay in files; decoding: processes that read them
stream    their batches, by the number of a step
limits    how much is read of files that are not to be trusted
archives  reading folders, tar files, images and caches
pickles   reading pickles of plain data, without pickle
augment   crop, flip, normalisation and cutout, inside the jitted step
crops     random resized crops, for it and for the host
jitter    brightness, contrast, saturation and hue, for it
autoaugment `apply(key, image)`: the CIFAR-10 policy of AutoAugment
device    the whole data set on the device; batches chosen inside the step
text      `load(path)`: texts as sequences of tokens
windows   a text as columns that are read side by side, window by window
fingerprint  a short name for the contents of arrays
benchmark `load(path)`: the known accuracy of every cell of a space
"""
