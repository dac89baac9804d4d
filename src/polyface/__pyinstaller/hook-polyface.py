"""Collect polyface, its commands, and every plugin installed: metadata, all modules, and files such as weights.

Plugins and what they provide are named in metadata and records, so that no import leads PyInstaller to them.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

from polyface.__pyinstaller import plugin_packages


def _is_used(module: str) -> bool:
    """Whether a program may use the module; what tests are written with imports pytest."""
    return not module.startswith(("polyface.testing", "polyface.__pyinstaller"))


hiddenimports = collect_submodules("polyface", filter=_is_used)
datas = copy_metadata("polyface")
for distribution, packages in sorted(plugin_packages().items()):
    datas += copy_metadata(distribution)
    for package in sorted(packages):
        hiddenimports += collect_submodules(package)
        datas += collect_data_files(package)
