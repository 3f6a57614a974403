"""A question as it comes over HTTP: the options of ``ecgadvise recommend`` as query parameters of the same names."""

from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from advisor.answer.question import Question
from advisor.service.jobs.job import Job, State
from advisor.terminal.failures import Failure
from advisor.terminal.question_options import labels_asked_for, option, refuse_contradictions, refuse_nonsense
from models.errors import ExitCode

# By field of a pilot's request, the parameter of the question that it answers; what else it has is how it was run.
_OF_PILOT = {
    "arch": "arch", "upstream": "upstream", "from_network": "from", "labels": "labels", "n_records": "n_records",
    "target": "target", "label_cost": "label_cost", "gpu_cost": "gpu_cost", "margin": "margin",
}  # fmt: skip
_Text = Annotated[str, Field(max_length=2000)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Network = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)]  # a name, never a path
_Count = Annotated[int, Field(ge=-(2**53), le=2**53)]  # what JSON has exactly


class Asked(BaseModel):
    """What ``recommend`` is asked. ``data`` is a dataset's id: then the answer is for its records."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    n_records: _Count | None = Field(None, description="Labelled records you have; without it those of data.")
    arch: _Text | None = Field(None, description="cnn, rnn, or the name of a network.")
    upstream: _Text | None = Field(None, description="What the network was pre-trained on, or its name; or none.")
    task: _Text | None = Field(None, description="Answer from this task of the evidence alone.")
    metric: _Text = Field("auroc_macro", description="The score to compare.")
    margin: _Number = Field(0.01, description="The smallest difference of the metric that matters to you.")
    target: _Number | None = Field(None, description="A score: how many records does it take?")
    label_cost: _Number | None = Field(None, description="Money that a labelled record costs.")
    gpu_cost: _Number | None = Field(None, description="Money that an hour of your device costs.")
    currency: _Text | None = Field(None, description="What prices are in, as EUR: sums are written in it.")
    uses: _Count | None = Field(None, description="Trainings that share a pre-training you have to pay for.")
    device_speed: _Number | None = Field(None, description="Records a second the network trains with on your device.")
    labels: _Text | None = Field(None, description="Your labels with their shares, AF:0.04,LBBB:0.02; of data some.")
    events: _Text | None = Field(None, description="How many of your records have each label: 40,12.")
    task_like: _Text | None = Field(None, description="A measured task whose labels are like yours.")
    explain: bool = Field(False, description="Add the evidence, the fit, the backtest and the limits.")
    data: Annotated[str, Field(max_length=64)] | None = Field(None, description="A dataset's id.")
    from_: _Network | None = Field(None, alias="from", description="A pre-trained network for data, by its name.")

    @property
    def key(self) -> tuple[Any, ...]:
        """What two equal questions have in common."""
        return tuple(self.__dict__.values())

    def question(self) -> Question:
        """Return the question about a number of records. Raises Failure for one that makes no sense."""
        if self.n_records is None:
            raise Failure(
                "n_records is missing: give the number of labelled records that you have, or a dataset", ExitCode.USAGE
            )
        n = self.n_records
        refuse_contradictions(self.upstream, self.from_, self.uses, self.task, self.task_like, str)
        question = Question(
            n, self.arch, self.metric, self.margin, self.upstream, self.task, self.target, self.label_cost,
            self.gpu_cost, self.uses, self.device_speed,
            labels_asked_for(self.labels, self.events, self.task_like, n, has_data=False, spell=str), self.task_like,
            None, self.currency,
        )  # fmt: skip
        refuse_nonsense(question, self.from_, str)
        return question

    def options(self) -> list[str]:
        """Return the words of the command line that ask the same, without ``--data``."""
        given = self.model_dump(exclude_unset=True, exclude={"data", "explain", "download"}, by_alias=True)
        words = [f"{option(name)}={value}" for name, value in given.items() if value is not None]
        return [*words, *(["--explain"] if self.explain else [])]


def query_of(job: Job) -> str | None:
    """Return the query that asks what a pilot has answered, None of another job and before it is done.

    None too of a pilot that held out test records of its own: a question has the dataset's.
    """
    asked = job.request
    if job.kind != "pilot" or job.state is not State.DONE:
        return None
    if asked.get("test_fraction") is not None or asked.get("test_seed") is not None:
        return None
    given = {name: asked[field] for field, name in _OF_PILOT.items() if asked.get(field) is not None}
    return urlencode({"data": job.dataset, **given})
