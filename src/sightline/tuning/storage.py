"""Where a search's trials are kept: SQLite in its folder, a journal on a file system that machines share, a database.

A journal is written by appending alone, which network file systems do well and SQLite's locking does not.
"""

import fcntl
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline import deps
from sightline.command_line import without_password
from sightline.errors import RecipeError, SightlineError

JOURNAL = "journal:"

_NAME = "sightline"

_TABLES_SECONDS = 2.0
"""To make a database's tables takes less."""


class Storage:
    """One search's place."""

    def __init__(self, folder: Path, address: str | None) -> None:
        """`address` is None, "journal:PATH" or a database's, such as postgresql://host/name. Raises RecipeError."""
        if address is not None and not address.startswith(JOURNAL) and "://" not in address:
            raise RecipeError(
                f"--storage takes journal:PATH or a database's address such as postgresql://host/name, got {address!r}."
            )
        self.is_shared = address is not None
        """Whether machines that don't share this folder may work on the search."""
        self._address = address or f"sqlite:///{(folder / 'trials.db').absolute()}"
        journal = Path(self._address.removeprefix(JOURNAL)) if self._address.startswith(JOURNAL) else None
        if journal is not None and not journal.name:
            raise RecipeError(f"--storage {address} names no file. Write journal:PATH, a file that all machines see.")
        self._journal = journal
        self.place = without_password(address) if address is not None else str(folder / "trials.db")
        """What a user may be shown."""
        self._lock = folder / ".asking" if journal is None else journal.with_name(f"{journal.name}.asking")

    def study(self, optuna: Any, pruner: Any, directions: Sequence[str]) -> Any:
        """Optuna's study, made where there is none, with a direction ("maximize", "minimize") for each aim.

        Raises SightlineError where the place can't be used.
        """
        sqlalchemy: Any = deps.require("sqlalchemy.exc", extra="tune", purpose="Searching settings")
        broken = (sqlalchemy.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ImportError)
        try:
            try:
                return self._opened(optuna, pruner, directions)
            except sqlalchemy.SQLAlchemyError:  # another machine may be making the tables
                if not self.is_shared:
                    raise
                time.sleep(_TABLES_SECONDS)
                return self._opened(optuna, pruner, directions)
        except (*broken, OSError, ValueError) as error:
            cause = error.__cause__ or error
            reason = str(cause).splitlines()[0]
            advice = f"Choose another {'--storage' if self.is_shared else '--out'}."
            if isinstance(cause, ModuleNotFoundError) and cause.name == "psycopg":
                advice = 'Install it with: pip install "sightline[postgresql]"'
            raise SightlineError(f"{self.place!r} can't be opened: {reason}. {advice}") from error

    def _opened(self, optuna: Any, pruner: Any, directions: Sequence[str]) -> Any:
        return optuna.create_study(
            storage=self._backend(optuna),
            study_name=_NAME,
            directions=list(directions),
            pruner=pruner,
            load_if_exists=True,
        )

    @contextmanager
    def asking(self) -> Generator[None]:
        """Alone with the trials, among the processes on this folder, or on this journal."""
        try:
            file = self._lock.open("w")
        except OSError as error:
            raise SightlineError(f"Could not write {str(self._lock)!r}: {error.strerror or error}.") from error
        with file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def _backend(self, optuna: Any) -> Any:
        if self._journal is None:
            return self._address
        backend = optuna.storages.journal.JournalFileBackend(str(self._journal))
        return optuna.storages.JournalStorage(backend)
