"""A family whose networks give faces as they are: boxes and scores in one output ``(n, p, 5)``."""

from __future__ import annotations

from polyface.errors import ContractError
from polyface.plugins.records import DetectorSpec, FamilySpec, OptionSpec, Preprocess, Ref


def describe(interface, *, mean, wrong=""):
    if wrong == "raises":
        raise ZeroDivisionError("by zero")
    if wrong == "contract":
        raise ContractError("A record is wrong.")
    if wrong == "none":
        return None
    fields = interface.fields()
    if [tensor.dims[-1:] for tensor in interface.outputs] != [(5,)]:
        raise interface.misfit("one output (n, p, 5)")
    return DetectorSpec(
        **fields,
        summary="A toy",
        preprocess=Preprocess(channels="rgb", mean=mean),
        head=Ref("toy_network:BareHead"),
    )


FAMILY = FamilySpec(
    name="toys",
    summary="Toys",
    parameters=(
        OptionSpec(name="mean", type="numbers", help="Mean.", default=(0, 0, 0)),
        OptionSpec(name="wrong", type="str", help="What goes wrong."),
    ),
    describe=Ref("toy_family:describe"),
)
