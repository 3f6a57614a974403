"""From labelled records to a model that predicts, in Python: ask, train, export, predict, evaluate.

On 200 synthetic records that it writes into a new folder, and tried on 80 others, in less than half a minute and
without a network.

python examples/from_records_to_model.py FOLDER
"""

import sys
from pathlib import Path

from synthetic_records import write_folder

import ecgadvise


def main(folder: Path) -> None:
    """Do it all in a folder, and say what came of it."""
    write_folder(folder / "ward", 200)
    write_folder(folder / "next-ward", 80, seed=1)

    # Ask: what would a network score with 160 records, and is a pre-trained one worth it? From the evidence alone.
    answer = ecgadvise.recommend(n_records=160, arch="cnn")
    print(f"advice: {answer.best.strategy}, gain of fine-tuning {answer.gain.mean:+.3f}; {answer.verdict}")

    # Prepare the records once, and train: a regression on a released network's features takes seconds.
    corpus = ecgadvise.prepare(folder / "ward", folder / "corpus")
    trained = ecgadvise.train(corpus, arch="cnn", out=folder / "network", strategy="linear-probe")
    print(f"trained: macro AUROC {trained.evaluation.auroc_macro:.2f} on {trained.evaluation.n_records} test records")

    # Export: one ONNX file, compared with the network before it is written. It predicts without PyTorch.
    model = trained.export(folder / "model" / "model.onnx")
    print(f"exported: {model.path.name} tells {', '.join(model.classes)}")

    # Predict: millivolt (records, leads, samples), of any rate and order of leads.
    others = ecgadvise.prepare(folder / "next-ward", folder / "next-corpus")
    task = others.task("")
    probabilities = model.predict(others.signals[task.rows], fs=others.fs, leads=others.leads)

    # Evaluate: the same scores for anybody's probabilities, whole patients resampled.
    scores = ecgadvise.evaluate(task.labels, probabilities, groups=task.patients, classes=model.classes)
    low, high = scores.auroc_macro_ci_lower, scores.auroc_macro_ci_upper
    print(f"evaluated: macro AUROC {scores.auroc_macro:.2f} (90 %: {low:.2f} to {high:.2f}) on {len(others)} others")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
