"""The folder beside a model where a training keeps its state until the model is there."""

import shutil
from pathlib import Path


def stage_for(target: Path, job: str) -> Path:
    """The folder beside the model; empty where the last training was of another job.

    Args:
        target: Where the model will be.
        job: What the training is of: it goes on only where this is the same.

    Raises:
        WriteError: It cannot be made.
    """
    from geofuse.errors import WriteError

    stage = target.with_name(f".{target.name}.training")
    note = stage / "job"
    try:
        if not note.is_file() or note.read_text() != job:
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(parents=True)
            note.write_text(job)
    except OSError as error:
        raise WriteError(
            f"expected to keep the training beside {target}, found that there can be no "
            f"folder ({error}); choose another place"
        ) from error
    return stage
