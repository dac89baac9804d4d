"""Where the original keeps :mod:`polyface.compat.face_detection.retinaface.tensorrt_wrap`."""
