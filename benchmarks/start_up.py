"""From running `%%finetune` to the first optimizer step, in a new kernel and in a used one, and where the time goes.

`python benchmarks/start_up.py [--rounds 3] [--quick]`; about a minute.
"""
import argparse, json, subprocess, sys, tempfile
from statistics import median
from _common import bar, described, offline, publish, table

# Runs in a new interpreter, as a kernel would: the extension is loaded, then the cell. Prints times in seconds, wall and processor
CELL = '''
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.extension_manager.load_extension('slm_magic')
from slm_magic import views
from slm_magic.run import Listener
marks = []
class Marks(Listener):
    def on_step(self, run, step):
        if step == 1: marks.append((time.perf_counter()-start[0], time.process_time()-start[1]))
        run.request_stop()
views.views.append(Marks) # beside the live view
for _ in range(2):
    start = time.perf_counter(),time.process_time()
    shell.run_cell_magic('finetune', '', 'eval: 0.1')
print(json.dumps(marks))
'''

# The same calls as `finetune` makes, one after the other in a new interpreter
PARTS = '''
import json, sys, time
said,last = {},time.process_time()
def part(name):
    global last
    said[name],last = time.process_time()-last,time.process_time()
import torch; part('import torch')
import transformers; from transformers import Trainer; part('import transformers with its Trainer')
from slm_magic.adapt import without_bitsandbytes
with without_bitsandbytes(): import peft
part('import peft')
from slm_magic import train
from slm_magic.recipe import Recipe
from slm_magic.run import create_run
recipe = Recipe.make(); part('import slm_magic, read the recipe')
plan = train.make_plan(recipe); part('plan: rows, tokens, memory estimate, checks')
run = create_run(plan.recipe, plan.data, plan.path); part('run folder')
from slm_magic.model import apply_method, base_model
model = base_model(plan.recipe, 'causal', None); part('load the model')
from slm_magic.steps import sample_answers
sample_answers(plan, model); part('answers of the base to the samples')
model = apply_method(model, plan.recipe); part('adapter')
from slm_magic.matmul import probe
probe(); part('probe of matrix products')
with train.fast_step(plan, model) as engine:
    part('self-check')
    trainer = train.make_trainer(plan, model, run, engine); part('trainer')
    trainer.args.max_steps = 1
    trainer.train(); part('first step')
print(json.dumps(said))
'''

def in_new_process(code, threads):
    "What `code` prints last, as JSON; it works in an empty folder."
    with tempfile.TemporaryDirectory() as tmp: res = subprocess.run([sys.executable, '-c', code], cwd=tmp, capture_output=True, text=True, env=offline(threads))
    if res.returncode: raise SystemExit(res.stderr[-2000:])
    return json.loads(res.stdout.splitlines()[-1])

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--threads', type=int, default=1, help='threads of the kernel')
    cli.add_argument('--rounds', type=int, default=3, help='new kernels')
    cli.add_argument('--quick', action='store_true', help='one round; the page stays as it is')
    a = cli.parse_args()
    rounds = 1 if a.quick else a.rounds
    cells = [in_new_process(CELL, a.threads) for _ in range(rounds)]
    parts = [in_new_process(PARTS, a.threads) for _ in range(rounds)]
    def middle(i, j): return median(o[i][j] for o in cells)
    times = table(['', 'wall s', 'CPU s'], [[n, f'{middle(i, 0):.2f}', f'{middle(i, 1):.2f}'] for i,n in enumerate(('new kernel', 'used kernel'))])
    where = table(['new process', 'CPU s'], [[n, f'{median(o[n] for o in parts):.2f}'] for n in parts[0]])
    bars = [bar('first step in a new kernel, seconds', middle(0, 0), 6, least=False), bar('first step in a used kernel, seconds', middle(1, 0), 1, least=False)]
    text = '\n\n'.join([described(a.threads, rounds), times, where, '\n'.join(bars)])
    print('\n' + text) if a.quick else publish('start_up', text)

if __name__ == '__main__': main()
