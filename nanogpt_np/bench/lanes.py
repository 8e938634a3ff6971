"""Racers in their own processes, timed one after another, round by round: machine drift affects all alike."""

import copy
import multiprocessing
import statistics
import time

SETTLE = 0.2  # seconds until the previous racer's threads sleep: OpenBLAS's were seen to use a core for 0.11


class Lane:
    """A racer in its own process: in a shared one, a library's waiting threads slow down the other."""

    def __init__(self, racer, directory):
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, end) = racer.name, context.Pipe()
        self.process = context.Process(target=_race, args=(racer, directory, end), daemon=True)
        self.process.start()
        end.close()
        self._answer()

    def twin(self, name):
        """Return a lane called `name` in the same process: the same racer in another race."""
        twin = copy.copy(self)
        twin.name = name
        return twin

    def prepare(self, method, *arguments):
        """Prepare what `time` will run, and run it once to warm up; return the result of that run."""
        self.pipe.send((self.name, method, arguments))
        return self._answer()

    def time(self):
        """Return the seconds that one run takes."""
        self.pipe.send(self.name)
        return self._answer()

    def _answer(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise ValueError(f"the process of {self.name} ended early") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        """End the process."""
        self.pipe.close()
        self.process.join()


def _race(racer, directory, pipe):
    """Run a lane's process: make the racer, then prepare and time runs as requested, until closed."""
    try:
        racer, runs = racer(directory), {}
        pipe.send("ready")
        while True:
            question = pipe.recv()
            if isinstance(question, str):
                run = runs[question]
                time.sleep(SETTLE)
                began = time.perf_counter()
                run()
                pipe.send(time.perf_counter() - began)
            else:
                name, method, arguments = question
                runs[name] = getattr(racer, method)(*arguments)
                pipe.send(runs[name]())
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:
        pipe.send(error)


def in_turn(lanes, rounds):
    """Time every lane once in each round; return ``{name: [seconds]}``."""
    seconds = {lane.name: [] for lane in lanes}
    for _ in range(rounds):
        for lane in lanes:
            seconds[lane.name].append(lane.time())
    return seconds


def summary(seconds, per=1):
    """Return the median and the quartiles of some timings, each divided by `per`."""
    low, median, high = statistics.quantiles([s / per for s in seconds], n=4)
    return {"median": median, "low": low, "high": high}
