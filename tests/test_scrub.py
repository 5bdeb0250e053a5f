"The run as it was: with any method and any head, exactly, within the bound, without touching the run's own model, and at next to no cost."
import signal, threading, time
import pytest, torch
from slm_magic import RecipeError, Run, finetune
from slm_magic.methods import METHODS
from slm_magic.run import Listener
from slm_magic.scrub import moments
from slm_magic.snapshots import MOST_BYTES, Snapshots

@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

class StopAt(Listener):
    def __init__(self, step): self.at = step
    def on_step(self, run, step):
        if step == self.at: run.request_stop()

small = dict(max_steps=6, eval_steps=3, samples=2, eval=12, precision='fp32', learning_rate=4e-3, save_steps=2, save_total_limit=10)
def train(**more): return finetune(**dict(small, listeners=[]) | more)
def state(model): return {k: v.clone() for k,v in model.state_dict().items() if torch.is_tensor(v)}
def same(a, b): return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k,v in a.items())
def logits(model): # of some tokens
    with torch.no_grad(): return model(torch.tensor([[5, 6, 7, 8]])).logits

@pytest.mark.parametrize('method', METHODS)
def test_as_a_run_stopped_there(method):
    "Its logits and answers are those of a run that was stopped at that step; so are those of the checkpoint; the run itself is what it was"
    keys = dict(method=method, name=method)
    run,stopped = train(**keys),train(**keys, listeners=[StopAt(4)])
    before,then,texts = state(run.model),run.at(4),[o['prompt'] for o in run.samples]
    assert then.step == 4 and stopped.state['step'] == 4 and run.snapshots.size <= MOST_BYTES
    if method == 'pissa': assert torch.allclose(logits(then.model), logits(stopped.model), atol=1e-4) # its sums are in another order
    else: assert torch.equal(logits(then.model), logits(stopped.model))
    assert then.generate(texts) == stopped.generate(texts) and not torch.equal(logits(then.model), logits(run.model))
    assert same(before, state(run.model))
    again = Run.load(run.path)
    assert 4 in moments(again)
    if method == 'pissa':
        with pytest.raises(RecipeError, match='changed base'): again.at(4)
    else: assert torch.allclose(logits(again.at(4).model), logits(then.model), atol=1e-5)
