"""The scripts that a fresh interpreter runs to measure a cold start or the peak memory."""

from .report import OURS, THEIRS

TEXT, IDS = "The capital of France is", [464, 3139, 286, 4881, 318]
NEW_TOKENS = 200  # generated while the peak of the memory is measured
COLD = {
    OURS: "from nanogpt_np.__main__ import main; main(['generate', TEXT, '-n', '1', '--model', DIRECTORY])",
    THEIRS: """
import torch
from transformers import GPT2LMHeadModel
from nanogpt_np.text import Tokenizer  # transformers' own would need files that the checkpoint lacks
model = GPT2LMHeadModel.from_pretrained(DIRECTORY, dtype=torch.float32)
ids = torch.tensor([Tokenizer().encode(TEXT)])
print(model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)[0, -1])
""",
}
PEAK = """
import pathlib, resource, sys
status = pathlib.Path("/proc/self/status")
if status.is_file():  # on Linux ru_maxrss is never below the parent process's
    print(1024 * int(status.read_text().split("VmHWM:")[1].split()[0]))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
MEMORY = {
    OURS: f"""
import nanogpt_np
from nanogpt_np.generate import generate
for token in generate(nanogpt_np.load(DIRECTORY), {IDS}, {NEW_TOKENS}, stop=()):
    pass
{PEAK}
""",
    THEIRS: f"""
import torch
from transformers import GPT2LMHeadModel
model = GPT2LMHeadModel.from_pretrained(DIRECTORY, dtype=torch.float32)
ids = torch.tensor([{IDS}])
mask = torch.ones_like(ids)
model.generate(ids, attention_mask=mask, max_new_tokens={NEW_TOKENS}, min_new_tokens={NEW_TOKENS}, do_sample=False)
{PEAK}
""",
}
