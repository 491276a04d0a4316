"""Pretraining: the loop, optimisers, schedules, precision, checkpoints, alarms and the run folder."""

from .observe import Moment, Observer
from .pretrain import Pretrained, pretrain, resume
from .run import Run, environment
from .settings import Settings
from .suggest import suggest

__all__ = ["Moment", "Observer", "Pretrained", "Run", "Settings", "environment", "pretrain", "resume", "suggest"]
