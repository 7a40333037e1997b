"""Ends of workers' processes, from texts as Ray 2 writes them."""

import pytest
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RayTaskError,
)

from cluster.ray_errors import last_error, names_lost_node, process_end

DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: ImplicitFunc\n"


@pytest.mark.parametrize(
    ("text", "how", "code"),
    [
        (
            DIED + "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR",
            "killed",
            None,
        ),
        (DIED + "Worker exit type: USER_ERROR Worker exit detail: exit code 7", "exited", 7),
        (DIED + "Worker exit detail: exit code -9", "exited", -9),
        (DIED + "Task was killed due to the node running low on memory.", "memory", None),
        (DIED + "The actor died because its node has died. Node Id: 1", "node_lost", None),
        (DIED + "its node was terminated by the autoscaler", "node_lost", None),
        (DIED + "Traceback (most recent call last):\nValueError: 3 nodes", "error", None),
    ],
)
def test_ends_of_actors(text: str, how: str, code: int | None) -> None:
    end = process_end(RayActorError(error_msg=text))
    assert (end.how, end.code) == (how, code)
    assert text in end.text


def test_a_silent_node_is_lost() -> None:
    assert process_end(ActorUnavailableError("no answer", None)).how == "node_lost"


@pytest.mark.parametrize("text", ["exit code 7", "low on memory", "out of memory"])
def test_an_exception_is_an_error_whatever_its_words(text: str) -> None:
    error = raised_by_a_task(RuntimeError(text))
    assert process_end(error).how == "error"
    assert process_end(error).text == text
    assert not names_lost_node(error)


def raised_by_a_task(cause: Exception) -> RayTaskError:
    return RayTaskError("train", "Traceback", cause, proctitle="p", pid=1, ip="10.0.0.1")


def test_an_exception_that_cannot_be_pickled_is_an_error_of_its_task() -> None:
    assert process_end(raised_by_a_task(RayError("Exception of a user isn't serializable"))).how == "error"


@pytest.mark.parametrize(
    "error",
    [
        ActorPlacementGroupRemoved(),
        OwnerDiedError("aa", None, "train"),
        raised_by_a_task(OwnerDiedError("aa", None, "train")),
        "Failure # 1 (occurred at now)\nRay lost it\n",
    ],
    ids=str,
)
def test_what_no_process_raised_is_an_error_of_ray(error: object) -> None:
    assert process_end(error).how == "ray"
    assert process_end(error).text not in ("", "None")


def test_the_line_that_names_the_error() -> None:
    assert last_error("Traceback:\n  File x\nValueError: bad\n\nmore") == "ValueError: bad"
    assert last_error("first\nlast\n") == "last"
    assert last_error("") == "no reason given"
