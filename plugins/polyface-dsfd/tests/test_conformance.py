"""What every detector must keep, checked by the kit: half a gigabyte of seeded weights, written once."""

from __future__ import annotations

import pytest

from polyface.testing import DetectorConformance, Golden, PluginConformance


class TestPackage(PluginConformance):
    distribution = "polyface-dsfd"


class TestDsfd(DetectorConformance):
    detector = "dsfd-resnet152"
    backend = "torch"

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, seeded, tmp_path_factory):
        pytest.importorskip("polyface_torch", reason="the network runs on polyface-torch: pip install polyface-torch")
        from safetensors.torch import save_file

        path = tmp_path_factory.mktemp("seeded") / "dsfd.safetensors"
        save_file(seeded.state_dict(), path)
        yield str(path)
        path.unlink()  # pytest keeps the folder for three sessions

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, golden, reference_checkpoint):
        """One suffices: a second costs as long as all the other checks."""
        original = golden.outputs(cls.detector, 101, 157, 2)
        return [
            Golden(
                image=golden.image(101, 157, 2),
                heads={name: original[name] for name in ("loc", "logits")},
                scores=original["scores"],
                weights=str(reference_checkpoint(cls.detector)),
            )
        ]
