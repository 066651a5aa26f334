"""The one build step that pyproject.toml cannot express: data from the top of the repository goes into the package.

`weights/` and `benchmarks/published/` are rooms of their own in the repository, where people look for them. The wheel
contains `hear_models` only, so there they lie under the same names in `hear_models/_data/`; `hear_models/resources.py`
finds them in either place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
DATA = ("weights", "benchmarks/published")
NOT_SHIPPED = (".decoder.safetensors", ".log.jsonl", ".md")  # for those who go on with pretraining, in a checkout


class BuildWithData(build_py):
    """`build_py` that also copies DATA; an editable install copies nothing, it reads the checkout."""

    def _data_files(self) -> dict[Path, Path]:
        """Where each file goes in the built package → where it comes from."""
        package = Path(self.build_lib) / "hear_models" / "_data"
        return {
            package / source.relative_to(ROOT): source
            for name in DATA
            for source in sorted((ROOT / name).rglob("*"))
            if source.is_file() and source.name[0] != "." and not source.name.endswith(NOT_SHIPPED)
        }

    def run(self) -> None:
        if not self.editable_mode:
            # A `build/` left by an earlier build would put files that were deleted since into the wheel.
            shutil.rmtree(Path(self.build_lib) / "hear_models", ignore_errors=True)
        super().run()
        if not self.editable_mode:
            for target, source in self._data_files().items():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copied = [] if self.editable_mode else [str(target) for target in self._data_files()]
        return [*super().get_outputs(include_bytecode), *copied]


setup(cmdclass={"build_py": BuildWithData})
