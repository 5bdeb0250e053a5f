"""Shows that pre-training matters: LoRA from the bundled model against LoRA from a random model of the same shape.

    python check_pretraining.py    # about two minutes on two cores; fails unless the difference is clear
"""
import tempfile, time
from pathlib import Path
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed
from slm_magic.model import tiny_model
from slm_magic.scoring import class_losses
from slm_magic.train import finetune

def accuracy(run):
    "Share of held-out phrases whose tone gets the highest probability of the six."
    examples = run.eval_examples
    losses = class_losses(run.model, run.tokenizer, examples.prompts, run.labels)
    return sum(run.labels[row.index(min(row))] == c for row,c in zip(losses, examples.completions))/len(examples)

def train(model, folder, name):
    start = time.time()
    run = finetune(model, name=name, runs_dir=folder, samples=0, listeners=[])
    seconds,score = time.time()-start,accuracy(run)
    print(f'{name:<12} held-out accuracy {score:6.1%}   eval loss {run.best["eval_loss"]:.3f}   trained in {seconds:.0f} s', flush=True)
    return score,seconds

with tempfile.TemporaryDirectory() as tmp:
    blank = Path(tmp)/'blank'
    set_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_model())).save_pretrained(blank)
    AutoTokenizer.from_pretrained(tiny_model()).save_pretrained(blank)
    (after,seconds),(without,_) = train(None, tmp, 'pre-trained'),train(str(blank), tmp, 'random')
    assert after >= .9 and seconds < 60 and without < after - .2
