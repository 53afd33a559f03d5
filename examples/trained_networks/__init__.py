"""Networks for the examples and studies, each with data that it was trained to recognise.

- ``action_net``: a 3D ResNet for synthetic actions, with its weights in ``examples/weights``.
- ``direction_net``: a 3D ResNet that tells left from right in real footage, with its weights.
- ``bikes``: that footage, ten seconds in six shots (extra ``demo``).
- ``action_video``: a long video of these actions, one scene after the other.
- ``video_transformer``: a video transformer for the same actions, trained in half a minute.
- ``volume_net``: a 3D classifier of synthetic scans with a lesion, trained in 15 seconds.
- ``transnet``: TransNetV2, which detects the cuts of real videos (extra ``demo``).
- ``efficientnet``: EfficientNet-Lite0, trained on ImageNet (extra ``demo``).
"""
