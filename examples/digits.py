"""Reads handwritten digits: load, split, train with two settings, evaluate, report with a picture.

Run it from this folder, with scikit-learn and matplotlib installed::

    python digits.py Report                          # runs what is missing
    python digits.py Report                          # runs nothing
    python digits.py Report --gammas '[0.001, 0.1]'  # trains one new model, and reports
    kart-core plan digits:Report                     # what would run, and why

The data are the 1,797 pictures of 8 x 8 pixels that scikit-learn ships
(https://archive.ics.uci.edu/dataset/80): real, small, and on this machine already.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import kart_core as kart


@dataclass(frozen=True)
class Sample:
    """Pictures and what they show.

    Attributes:
        pixels: floats from 0 to 1, shape (pictures, 64).
        digits: integers from 0 to 9, shape (pictures,).
    """

    pixels: NDArray[np.float64]
    digits: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """How well a model reads pictures that it has not seen.

    Attributes:
        accuracy: the share that it reads rightly, from 0 to 1.
        confusion: how often digit `row` is read as digit `column`, shape (10, 10).
    """

    accuracy: float
    confusion: NDArray[np.int64]


class Classifier(Protocol):
    """What this pipeline needs of a model. A task's result is typed by what is done with it."""

    def fit(self, pixels: NDArray[np.float64], digits: NDArray[np.int64], /) -> Any: ...

    def predict(self, pixels: NDArray[np.float64], /) -> NDArray[np.int64]: ...


class Digits(kart.TaskOnKart[Sample]):
    """All pictures."""

    def run(self) -> Sample:
        # Imported where it is used: neither a plan nor a reused result waits for scikit-learn.
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        return Sample(pixels / 16.0, digits.astype(np.int64))


class Split(kart.TaskOnKart[tuple[Sample, Sample]]):
    """The pictures to learn from, and those to be judged by."""

    digits: Digits
    test_share: float = kart.parameter(default=0.25, description="the share of pictures kept for judging")

    def run(self) -> tuple[Sample, Sample]:
        everything = self.load(self.digits)
        order = kart.rng("split").permutation(len(everything.digits))  # this task's own stream: the same every time
        cut = round(len(order) * self.test_share)
        return _pick(everything, order[cut:]), _pick(everything, order[:cut])


class Train(kart.TaskOnKart[Classifier]):
    """A support vector machine that has seen the training pictures."""

    split: Split
    gamma: float = kart.parameter(default=0.01, description="how near two pictures must be to count as alike")

    def run(self) -> Classifier:
        from sklearn.svm import SVC

        training, _ = self.load(self.split)
        model: Classifier = SVC(gamma=self.gamma)
        model.fit(training.pixels, training.digits)
        return model


class Evaluate(kart.TaskOnKart[Score]):
    """The score of one model on the pictures that it has not seen."""

    model: Train
    split: Split

    def run(self) -> Score:
        _, unseen = self.load(self.split)
        read = self.load(self.model).predict(unseen.pixels)
        confusion = np.zeros((10, 10), dtype=np.int64)
        np.add.at(confusion, (unseen.digits, read), 1)
        return Score(accuracy=float(np.mean(read == unseen.digits)), confusion=confusion)


class Report(kart.TaskOnKart[bytes]):
    """A picture of each model's confusion matrix, side by side, as PNG.

    Which models it compares depends on a parameter, so it says itself what it requires; a task
    that only holds other tasks in its fields, as `Evaluate`, need not.
    """

    split: Split
    gammas: tuple[float, ...] = kart.parameter(default=(0.001, 0.01), description="one model is trained with each")

    def requires(self) -> Sequence[Evaluate]:
        return [Evaluate(model=Train(split=self.split, gamma=gamma), split=self.split) for gamma in self.gammas]

    def output(self) -> kart.Target:
        return self.make_target("report/confusion.png")

    def run(self) -> bytes:
        from matplotlib.figure import Figure  # without pyplot: no window, no state that other tasks could see

        figure = Figure(figsize=(4.4 * len(self.gammas), 4.6))
        panels = figure.subplots(1, len(self.gammas), squeeze=False)[0]
        for panel, gamma, evaluate in zip(panels, self.gammas, self.requires(), strict=True):
            score = self.load(evaluate)
            _draw(panel, score.confusion, title=f"gamma {gamma:g}: {score.accuracy:.1%} read rightly")
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120, bbox_inches="tight")
        return picture.getvalue()


def _pick(sample: Sample, rows: NDArray[np.int64]) -> Sample:
    return Sample(sample.pixels[rows], sample.digits[rows])


def _draw(panel: Any, confusion: NDArray[np.int64], title: str) -> None:
    panel.imshow(np.log1p(confusion), cmap="Blues")  # logarithmic: the rare mistakes are what one looks for
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if count > 10 else "black"
            panel.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    panel.set(title=title, xlabel="read as", ylabel="is a", xticks=range(10), yticks=range(10))


if __name__ == "__main__":
    kart.run()
