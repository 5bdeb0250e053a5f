"""The LoRA step on a model of SmolLM2-135M's shape: ours, transformers' Trainer, TRL and Olive, one step each in turn.

`python benchmarks/train_step.py [--threads 1] [--rounds 3] [--quick]`; about fifteen minutes, two with --quick.
"""
import argparse
from dataclasses import dataclass
from _common import ARGS, LORA, SHAPE, Contestant, bar, check_losses, counted, described, ids_of, make_model, make_rows, publish, race, step_flops, table

BATCH = 4

def work(model, rows, **more): return dict(model=str(model), rows=str(rows), args=ARGS, lora=LORA, batch=BATCH, **more)

def olive_command(model, rows, dtype):
    "Olive's command line for the same model, rows and batch; it joins the rows, cuts them to one length and learns every token."
    return dict(command=['finetune', '-m', str(model), '-o', 'olive-out', '-d', 'json', '--data_files', str(rows), '--text_template', '{prompt} {completion}', '--lora_r', '16', '--lora_alpha', '32',
                         '--max_steps', '100', '--per_device_train_batch_size', str(BATCH), '--logging_steps', '1', '--max_seq_len', '256', '--torch_dtype', dtype,
                         '--use_cpu', 'True', '--dataloader_pin_memory', 'False', '--disable_telemetry', '--log_level', '3'])

def fp32(model, rows) -> list[Contestant]:
    "Who takes part in fp32. The first is the one the losses of all are compared with."
    def o(**more): return work(model, rows, **more)
    plain = dict(bf16=False, gradient_checkpointing=False)
    free = dict(padding_free=True, max_length=None)
    return [Contestant('HF Trainer', 'trainer', o()),
            Contestant('ours', 'ours', o(precision='fp32')),
            Contestant('TRL, its defaults (checkpointing)', 'trl', o(bf16=False), 'trl'),
            Contestant('TRL, no checkpointing', 'trl', o(**plain), 'trl'),
            Contestant('TRL, padding-free', 'trl', o(**plain, **free), 'trl'),
            Contestant('TRL, padding-free, oneDNN switch', 'trl', o(**plain, **free, switch='medium'), 'trl'),
            Contestant('Olive', 'olive', olive_command(model, rows, 'float32'), 'olive', same=False),
            Contestant('limit', 'limit', dict(setting='medium'), same=False)]

def bf16(model, rows) -> list[Contestant]:
    "Who takes part in bf16."
    def o(**more): return work(model, rows, **more)
    return [Contestant('HF Trainer, bf16=True', 'trainer', o(bf16=True)),
            Contestant('HF Trainer, bf16 weights', 'trainer', o(dtype='bfloat16')),
            Contestant('ours, bf16 products', 'ours', o(precision='auto')),
            Contestant('TRL, its defaults (bf16=True, checkpointing)', 'trl', o(), 'trl'),
            Contestant('TRL, no checkpointing, bf16=True', 'trl', o(gradient_checkpointing=False), 'trl'),
            Contestant('Olive, its defaults (bf16 weights)', 'olive', olive_command(model, rows, 'bfloat16'), 'olive', same=False)]

@dataclass
class Speed:
    "What a contestant reached."
    real:float   # real tokens a second of CPU time
    wall:float   # real tokens a second of wall time
    peak:float   # MB above the loaded model
    step:float   # CPU seconds a step

def speed_of(o:Contestant, rows:list[dict]) -> Speed|None:
    "Real tokens of the measured steps by their time; the middle of the rounds."
    if o.why or not o.steps: return None
    from statistics import median
    batches,n = counted(rows, BATCH, len(o.steps)),range(len(o.steps))
    def tokens(i): return o.steps[i].get('tokens') or sum(len(r['input_ids']) for r in batches[i])
    return Speed(median(tokens(i)/o.steps[i]['cpu'] for i in n), median(tokens(i)/o.steps[i]['wall'] for i in n), max((s['peak'] or 0) for s in o.steps), o.middle('cpu'))

def per_step(shape:dict, rows:list[dict], steps:int) -> tuple[float, float]:
    "Operations and real tokens of a measured step, on average."
    part = sum(counted(rows, BATCH, steps), [])
    return step_flops(shape, part)/steps, sum(len(o['input_ids']) for o in part)/steps

def report(group:list[Contestant], speeds:dict, base:str, limit:float, shape:dict, rows:list[dict]) -> str:
    "The table of a group."
    flops,tokens = per_step(shape, rows, max(len(o.steps) for o in group))
    def line(o):
        s = speeds[o.name]
        if s is None: return [o.name, o.why, *[None]*5]
        share = s.real/tokens*flops/1e9/limit if limit and o.same else None
        return [o.name, f'{s.real:.0f}', f'{s.real/speeds[base].real:.2f}', f'{s.wall:.0f}', f'{s.step:.2f}', f'{s.peak:.0f}', f'{share:.0%}' if share else None]
    return table(['', 'real tokens/s (CPU time)', f'to {base}', 'real tokens/s (wall)', 's/step (CPU)', 'peak above the model, MB', 'share of the fp32 limit'], [line(o) for o in group if o.kind != 'limit'])

def best(speeds, names):
    "The fastest of `names` that were run."
    return max((speeds[n].real for n in names if speeds.get(n)), default=None)

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--threads', type=int, default=1, help='threads of each contestant')
    cli.add_argument('--rounds', type=int, default=3, help='measured steps of each')
    cli.add_argument('--quick', action='store_true', help='one round, and ours and the Trainer only')
    a = cli.parse_args()
    rounds = 1 if a.quick else a.rounds
    model = make_model('m135', SHAPE)
    path = make_rows(model, 64)
    rows = ids_of(path)
    full,half = fp32(model, path),bf16(model, path)
    if a.quick: full,half = ([o for o in g if o.kind in ('ours', 'trainer', 'limit')] for g in (full, half))
    for group,rtol in (full, 1e-4), (half, 2e-2):
        race(group, rounds, a.threads)
        check_losses(group, rtol)
    limit = next(o.middle('gflops') for o in full if o.kind == 'limit')
    speeds = {o.name: speed_of(o, rows) for o in full+half if o.kind != 'limit'}
    ours,hf,ours16 = (speeds[n] for n in ('ours', 'HF Trainer', 'ours, bf16 products'))
    def ratio(mine, other): return mine.real/other if mine and other else None
    switched = [n for n in speeds if 'oneDNN' in n]
    trl = [n for n in speeds if n.startswith('TRL') and 'bf16' not in n and n not in switched]
    flops,tokens = per_step(SHAPE, rows, rounds)
    bars = [bar("fp32, ours to HF Trainer", ratio(ours, hf and hf.real), 3),
            bar("fp32, ours to the best of TRL", ratio(ours, best(speeds, trl)), 3.3),
            bar("fp32, ours to the best of TRL with the same matrix-product switch", ratio(ours, best(speeds, switched)), 2.2),
            bar("bf16, ours to the faster of HF Trainer's two", ratio(ours16, best(speeds, [n for n in speeds if n.startswith('HF Trainer,')])), 2.2),
            bar("fp32, peak memory above the model, ours to HF Trainer", ours.peak/hf.peak if ours and hf and hf.peak else None, .4, least=False),
            bar(f"fp32, share of the {limit:.0f} GFLOP/s that fp32 products reach", ours.real/tokens*flops/1e9/limit if ours else None, .6)]
    text = '\n\n'.join([described(a.threads, rounds), f'A step: batch {BATCH}, {tokens:.0f} real tokens, {flops/1e9:.0f} GFLOP needed; {limit:.0f} GFLOP/s measured for fp32 products by oneDNN.', '**fp32**', report(full, speeds, 'HF Trainer', limit, SHAPE, rows),
                        '**bf16**', report(half, speeds, 'HF Trainer, bf16=True', None, SHAPE, rows), '\n'.join(bars)])
    print('\n' + text) if a.quick else publish('train_step', text)

if __name__ == '__main__': main()
