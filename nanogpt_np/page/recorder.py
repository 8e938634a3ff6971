"""The public `Recorder`: that of `interpret`, which a notebook shows as the page of its pass.

It is here because imports only go down: `interpret` knows nothing about the page. Read next: `notebook.py`.
"""

from ..interpret import recorder


class Recorder(recorder.Recorder):
    """Keep every array of a pass under its name: ``acts["blocks.0.attn.hook_pattern"]``. A new pass starts over.

    Other names of a tensor are understood too, see `interpret.recorder.Recorder`; it prints as a table of its arrays.
    In a notebook it shows as a page to walk through. With ``Recorder(model)`` the page also has the weights and
    explains the answer.
    """

    def _repr_html_(self) -> str | None:
        from .notebook import frame  # only when a page is shown

        return frame(self, self.model)
