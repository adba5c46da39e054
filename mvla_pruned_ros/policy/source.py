"""What the name of a policy stands for, and the one way to load it.

A name is that of a shipped policy, a path of a policy folder, or ``package.module:factory``: a function, to be
imported, that returns a policy of somebody else. Code is loaded only where the person who starts a command or the node
names it so; nothing in a policy folder can.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..configuration.reader import read_json
from ..control.action_spaces import ActionForm
from ..models import policy_folder
from ..pruning.tri_stage.config import TriStageConfig
from .base import Policy
from .conformance import check_policy
from .engine.weight_files import CheckpointError
from .mla.config import ARCHITECTURE as MLA
from .mla.config import MLAConfig
from .mla.policy import MLAPolicy
from .mvla.checkpoint import config_file
from .mvla.config import MVLAConfig
from .mvla.policy import MVLAPolicy

FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


@dataclass(frozen=True)
class PolicySource:
    """See the module.

    Attributes:
        name: as it was given. folder: of a policy folder, None for code.
    """

    name: str
    folder: Path | None

    @classmethod
    def of(cls, name: str) -> PolicySource:
        """Raises ValueError when there is no such policy. Nothing is loaded yet."""
        if FACTORY.fullmatch(name) and not Path(name).exists():
            return cls(name, None)
        return cls(name, policy_folder(name))

    def pruning(self) -> TriStageConfig:
        """The pruning parameters that were fitted to it; the defaults for code."""
        return TriStageConfig() if self.folder is None else TriStageConfig.of_policy(self.folder)

    def load(
        self, device: str = "cpu", precision: str = "auto", check: Callable[[ActionForm, int], object] | None = None
    ) -> Policy:
        """The policy, ready to act.

        Args:
            device, precision: of ``resolve_device`` and ``resolve_precision`` for a folder; given to a factory as they
                are. check: told what actions mean and the values per action; raises ValueError for actions that the
                caller cannot use.

        Raises:
            ValueError: it cannot be loaded, or gives other actions; says what to do.
        """
        if self.folder is None:
            policy = check_policy(self._made(device, precision), self.name)
            if check is not None:
                check(ActionForm.of(policy), policy.action_dim)
            return policy
        config = load_config(self.folder)
        if check is not None:  # asked first: the weights may be many gigabytes
            check(config.actions, config.action_dim)
        kind = MLAPolicy if isinstance(config, MLAConfig) else MVLAPolicy
        return kind.load(self.folder, device, precision)

    def _made(self, device: str, precision: str) -> object:
        module_name, factory_name = self.name.split(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise ValueError(f"policy {self.name}: {module_name} needs a module that is absent: {error}") from error
            raise ValueError(
                f"policy {self.name}: there is no module {error.name!r}: install it, or put the folder it lies in on "
                "PYTHONPATH"
            ) from error
        except (Exception, SystemExit) as error:  # a module may read the command line, and end the process over it
            raise ValueError(
                f"policy {self.name}: importing {module_name} failed: {type(error).__name__}: {error}"
            ) from error
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            found = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
            raise ValueError(
                f"policy {self.name}: {module_name} ({module.__file__}) has no function {factory_name!r}; it has "
                f"{', '.join(found) or 'none'}"
            )
        try:
            return factory(device, precision)
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"policy {self.name}: {factory_name}({device!r}, {precision!r}) failed: {type(error).__name__}: {error}"
            ) from error


def load_policy(name: str | Path, device: str = "cpu", precision: str = "auto") -> Policy:
    """A policy ready to act.

    Args:
        name: of a shipped policy, a policy folder, or ``package.module:factory``. device, precision: see
            ``resolve_device`` and ``resolve_precision``.

    Raises:
        ValueError: there is no such policy, device or precision. CheckpointError, which is one: the folder is
            malformed; the message names the file, the key and the remedy.
    """
    return PolicySource.of(str(name)).load(device, precision)


def load_config(folder: Path | str) -> MVLAConfig | MLAConfig:
    """Configuration of a policy folder. Its ``architecture`` says which kind; without one it is an MVLA policy.

    Raises:
        CheckpointError: no such folder or configuration, or one that does not hold together.
    """
    path = config_file(Path(folder))
    try:
        architecture = read_json(path).get("architecture")
        if architecture is None:
            return MVLAConfig.load(path)
        if architecture == MLA:
            return MLAConfig.load(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    raise CheckpointError(f"{path} names architecture {architecture!r}: known are {MLA!r}, and none for MVLA")
