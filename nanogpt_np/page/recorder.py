"""The `Recorder` that people use: that of `interpret`, which a notebook shows as the page of its pass.

It stands here because an import never goes up: `interpret` knows nothing of the page. Read next: `notebook.py`.
"""

from ..interpret import recorder


class Recorder(recorder.Recorder):
    """Keep every array of a pass under its name: ``acts["blocks.0.attn.hook_pattern"]``. A new pass starts over.

    In a notebook it shows as a page to walk through. With ``Recorder(model)`` the page has the weights too, and says
    what made the answer.
    """

    def _repr_html_(self) -> str | None:
        from .notebook import frame  # not before a page is asked for

        return frame(self, self.model)
