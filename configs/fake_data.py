"""ResNet-50 on noise: the compiled step without any data set, to see how fast it is.

Command:   python launch.py --config=configs/fake_data.py
Accuracy:  none, there is nothing to learn; read images/s and the compile time.
           It imports no TensorFlow.
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.batch_size = 128
    config.duration = "100 steps"
    config.model.name = "resnet50"
    config.model.dtype = "bfloat16"
    config.model.bn_group_size = 128
    config.data.name = "fake"
    config.data.image_size = 224
    config.data.fake_train_examples = 1281167
    config.data.fake_eval_examples = 256
    config.data.fake_classes = 1000
    config.eval.batch_size = 256
    config.eval.every = ""
    config.checkpoint.every = "100 percent"
    config.log.every = "10 steps"
    config.log.tensorboard = False
    return config
