"""Make small trainings on the fake CuPy."""

from coordfit.config import make_config
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer
from support import fake_cupy

SETTINGS = {
    "hidden_size": 16,
    "depth": 3,
    "num_frequencies": 4,
    "steps": 400,
    "batch_size": 48,
    "schedule": "cosine",
}


def make_trainer(picture, backend=None, state=None, **options):
    config = make_config(SETTINGS | options)
    return Trainer([Job(picture, config)], backend or fake_cupy.CupyOnHost(), state)


def parameters_of(trainer):
    return trainer.backend.to_numpy(trainer.model.mlp.parameters)


def refuse_to_record(backend):
    backend.gpu.why_not_recorded = ""
    backend.capture = lambda step, warm_up=2: step
    return backend


def train(trainer, steps):
    with trainer.backend.activate():
        while trainer.step < steps:
            trainer.take_steps(steps - trainer.step)
        return parameters_of(trainer)
