"""Networks that map a picture to features.

``base`` defines the interface of an encoder; ``vgg`` and ``torchvision_models`` implement it. A VGG is built from
frozen ``layers`` and ``pooling``; its ``weights`` come from a ``checkpoint`` or from the package that ``oxford`` reads.
``architecture`` has the shapes and the names of the layers, ``signs`` what the backward pass of a ReLU keeps, and
``precision`` the floating-point types and what each kind of device can do.
"""

#: The name of the picture itself among the layers: its features are the pixels.
PIXELS = "pixels"
