"""A privacy statement in words that a data protection officer can weigh."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clinbundles.privacy.accounting.statement import PrivacyStatement

__all__ = ["NOT_COVERED", "statement_text"]

NOT_COVERED = (
    "The search for hyper-parameters. Other trainings on the same data, to choose a learning rate for instance, "
    "spend privacy of their own that is not in this number.",
    "The validation set and the test set. Choosing a checkpoint by them, and the metrics computed on them, reveal "
    "something of those people; the bound is about the training set alone.",
    "Anything else computed from the training data and published: normalisation constants, class weights, training "
    "loss and accuracy, the number of images.",
    "What a network is meant to learn. If disease is visible in images of a kind, the network tells it of new "
    "patients, whether or not they took part.",
    "Networks trained again on the same people. Their epsilons add up.",
)


def statement_text(statement: PrivacyStatement) -> str:
    """Some 40 lines: the guarantee, whom it protects, how it came about, what it does not cover."""
    parts = [
        "PRIVACY STATEMENT",
        *(_guarantee(statement) if statement.is_private else _no_guarantee(statement)),
        "What is not covered",
        *(f"- {text}" for text in NOT_COVERED),
        "How far to trust it",
        "Epsilon is recomputed from the numbers above whenever this statement is read. That the training really ran "
        "like this is the word of the site that trained; an audit of the training tests it.",
    ]
    return "\n".join(_wrapped(part) for part in parts) + "\n"


def _guarantee(statement: PrivacyStatement) -> list[str]:
    one = statement.unit
    whole = "one image" if one == "record" else "all images of one patient"
    ratio = math.exp(statement.epsilon) if statement.epsilon < 700 else math.inf
    at_one_percent = min(1.0, ratio * 0.01 + statement.delta)
    lines = [
        f"The network's weights are ({statement.epsilon:.3f}, {statement.delta:.3g})-differentially private for "
        f"{whole}.",
        "What that means",
        f"Add {whole} to the training set or take it away: no property of the released weights becomes more than "
        f"{ratio:.3g} times as likely or unlikely (e to the power epsilon), except with a probability of about "
        f"{statement.delta:.3g} (delta). Someone who wants to know whether a given {one} was used, and accepts one "
        f"wrong alarm in a hundred, finds it in at most {100 * at_one_percent:.3g} of a hundred cases. This holds "
        "for the weights and for everything computed from them, whatever else an attacker knows.",
        "Whom it protects",
        _whom(statement),
        _copies(statement),
        "How it came about",
        *_mechanism(statement),
        f"- epsilon by the PRV accountant ({statement.accountant_version}), an upper bound; neighbouring training "
        f"sets differ by adding or removing one {one}",
    ]
    if statement.epsilon > statement.planned_epsilon:
        lines.insert(1, f"THE BUDGET OF {statement.planned_epsilon:g} WAS EXCEEDED.")
    if statement.noise == "seeded":
        lines.insert(
            1,
            "NOT FOR RELEASE: the noise came from a seeded generator. Whoever learns or guesses the seed can remove "
            "it. Train with secure_rng: true before the weights leave the house.",
        )
    return lines


def _no_guarantee(statement: PrivacyStatement) -> list[str]:
    return [
        "NO PRIVACY GUARANTEE: the training had steps without noise (epsilon is infinite). The weights may reveal "
        "who was in the training set, and images of theirs. Treat them like the data themselves.",
        "How it came about",
        *_mechanism(statement),
    ]


def _whom(statement: PrivacyStatement) -> str:
    if statement.unit == "patient":
        return f"Each of the {statement.units} patients of the training set, with all images together."
    return (
        f"Each of the {statement.units} images of the training set by itself. A patient with k images is protected "
        "only by k times epsilon: where patients have several, the unit should be the patient."
    )


def _copies(statement: PrivacyStatement) -> str:
    group = "an image that is in k records" if statement.unit == "record" else "a person who is k patients"
    rule = (
        f"Group privacy: {group} (duplicates) is protected by k times epsilon only, at a delta that is about "
        "k exp((k - 1) epsilon) times as large."
    )
    if statement.copies is None:
        return f"{rule} Nobody looked for duplicates."
    if statement.copies <= 1:
        return f"{rule} No image was found in two {statement.unit}s."
    return (
        f"{rule} The most repeated image is in {statement.copies} {statement.unit}s: for it epsilon is "
        f"{statement.copies * statement.epsilon:.3f}."
    )


def _mechanism(statement: PrivacyStatement) -> list[str]:
    views = f", after the mean over {statement.views} augmented views" if statement.views > 1 else ""
    steps = [
        f"- {segment.steps} steps: each {statement.unit} in the batch with probability {segment.sample_rate:.6g} "
        f"(independently, by Poisson sampling; {segment.sample_rate * statement.units:.6g} expected), noise of "
        f"{segment.noise_multiplier:.4f} times the clipping norm"
        for segment in statement.segments[:5]
    ]
    if len(statement.segments) > 5:
        rest = sum(segment.steps for segment in statement.segments[5:])
        steps.append(f"- {rest} more steps with {len(statement.segments) - 5} other settings")
    return [
        *(steps or ["- no step was made: the weights do not depend on the training set"]),
        f"- each {statement.unit}'s gradient clipped to a norm of {statement.max_grad_norm:g}{views}",
        f"- noise and sampling: {statement.noise}",
        f"- planned: {statement.planned_steps} steps, epsilon {statement.planned_epsilon:g}",
    ]


def _wrapped(part: str) -> str:
    if part.startswith("- "):
        return textwrap.fill(part, width=100, subsequent_indent="  ")
    heading = "\n" if len(part) < 30 and not part.endswith(".") and part != "PRIVACY STATEMENT" else ""
    return heading + textwrap.fill(part, width=100)
