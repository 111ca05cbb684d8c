"""Put the files of a study into the wheel, below ``tauflow/template/``; an editable install has the clone's own."""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StudyTemplate(BuildHookInterface[Any]):
    """Hatchling's hook. It cannot import Tauflow, whose dependencies are not there when the wheel is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files of a study, and their record, to a wheel."""
        if version == "editable":
            return
        root = Path(self.root)
        template = runpy.run_path(str(root / "tauflow" / "study" / "template.py"))
        self._directory = tempfile.TemporaryDirectory()
        record = Path(self._directory.name) / template["RECORD"]
        record.write_text(template["record_text"](root, self.metadata.version), encoding="utf-8")
        files = [*template["template_files"](root), (record, template["RECORD"])]
        build_data["force_include"] |= {str(file): f"tauflow/template/{name}" for file, name in files}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary record."""
        if version != "editable":
            self._directory.cleanup()
