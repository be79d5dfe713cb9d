"""Trains a network to segment images, with the head of DeepLabV3.

  python -m jnas.main --config=configs/segment.py:camvid \
      --config.segment.genotype=DARTS_V2 --config.data.path=camvid.tar.xz

Table 5 of EnTranNAS: PASCAL VOC 2012 at an output stride of 16 and 513 x 513
pixels, mIoU of 75.1 % with DARTS, 77.1 % with EnTranNAS-DST. :voc is the
default. --config.segment.init=FOLDER begins with a classifier: a run of
configs/retrain.py with --config.space.stem=imagenet, as deep and as wide.
:quick segments made-up shapes without data: 34.7 % (background alone 18.7 %).
"""

from jnas import config as config_lib

ARGUMENTS = ("voc", "camvid", "quick")


def get_config(argument="voc"):
  config = config_lib.base()
  config.task, config.segment.genotype = "segment", "DARTS_V2"
  config.data.update(name="voc", flip=True)
  config.space.update(stem="imagenet", cells=14, width=48)
  config.weights.update(schedule="polynomial", lr=0.007, lr_end=0.0)
  config.weights.update(decay=1e-4, clip=0.0)
  config.train.update(length="30000 steps", batch=16)
  if argument == "camvid":
    config.data.name = "camvid"
    config.segment.update(output_stride=8, crop=176, test="test")
    config.train.update(length="300 epochs", batch=8)
    config.weights.lr, config.log.evaluate = 0.02, "10 epochs"
  if argument == "quick":
    config.data.name = "shapes"
    config.space.update(cells=3, width=4, stem="cifar")
    config.segment.update(crop=64, channels=16, output_stride=4)
    config.segment.update(scale_min=0.75, scale_max=1.5)
    config.train.update(length="10 epochs", batch=16)
    config.weights.lr, config.log.evaluate = 0.2, "2 epochs"
  return config
