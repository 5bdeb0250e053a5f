"""Ours against transformers' Trainer over batch, length of rows, what they begin with in common, and size of the model; fp32, the others held at the middle value.

`python benchmarks/scaling.py [--rounds 2] [--quick]`; about ten minutes.
"""
import argparse, json
from pathlib import Path
from _common import ARGS, LORA, SHAPE, Contestant, check_losses, counted, described, ids_of, make_model, make_rows, publish, race, table

SMALL = SHAPE | dict(num_hidden_layers=6)
# model, batch, tokens of a row (prompt and answer), tokens that all rows begin with
CASES = [*(('6 layers', b, 256, 0) for b in (1, 4, 16)), *(('6 layers', 4, n, 0) for n in (64, 1024)), *(('6 layers', b, 256, 60) for b in (4, 16)), ('bundled', 4, 256, 0), ('30 layers', 4, 256, 0)]

def model_of(name):
    "Folder of the model called `name`, with random weights."
    if name == '30 layers': return make_model('m135', SHAPE)
    if name == '6 layers': return make_model('m135-6', SMALL)
    from slm_magic.recipe import tiny_model
    config = json.loads((Path(tiny_model())/'config.json').read_text())
    return make_model('bundled', {k: config[k] for k in SHAPE})

def measure(name, batch, length, common, rounds, threads):
    "Speeds of ours and of the Trainer [real tokens a second of CPU time], and peaks [MB]."
    model = model_of(name)
    answer = max(4, length//6)
    path = make_rows(model, batch*(2*rounds+2), (length//2-answer, length-answer-1), (answer//2, answer), common)
    work = dict(model=str(model), rows=str(path), args=ARGS, lora=LORA, batch=batch)
    pair = [Contestant('ours', 'ours', work | dict(precision='fp32')), Contestant('HF Trainer', 'trainer', work)]
    race(pair, rounds, threads)
    check_losses(pair, 1e-4)
    rows = ids_of(path)
    def speed(o): return sum(len(r['input_ids']) for b in counted(rows, batch, rounds) for r in b)/o.total('cpu')
    return [speed(o) for o in pair], [max(s['peak'] or 0 for s in o.steps) for o in pair]

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--threads', type=int, default=1, help='threads of each')
    cli.add_argument('--rounds', type=int, default=2, help='measured steps of each')
    cli.add_argument('--quick', action='store_true', help='one round of the smallest cases; the page stays as it is')
    a = cli.parse_args()
    rounds,lines = (1 if a.quick else a.rounds),[]
    for name,batch,length,common in CASES[:1] if a.quick else CASES:
        what = f'{name}, batch {batch}, rows of up to {length} tokens' + f', of which the first {common} are the same'*bool(common)
        print(what, flush=True)
        (ours,hf),(mine,theirs) = measure(name, batch, length, common, rounds, a.threads)
        lines.append([what, f'{ours:.0f}', f'{hf:.0f}', f'{ours/hf:.2f}', f'{mine:.0f}', f'{theirs:.0f}'])
    text = described(a.threads, rounds) + '\n\n' + table(['', 'ours, real tokens/s (CPU)', 'HF Trainer', 'ratio', 'ours, peak above the model, MB', 'HF Trainer'], lines)
    print('\n' + text) if a.quick else publish('scaling', text)

if __name__ == '__main__': main()
