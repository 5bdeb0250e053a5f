"""The LoRA step on a CUDA GPU: a model of 1B's shape in bf16, ours, transformers' Trainer, TRL at its best and Unsloth.

`python benchmarks/gpu_train_step.py [--rounds 20] [--batch 16]`; ends at once where there is no GPU.
"""
import argparse
from _common import ARGS, LORA, PACKAGES, Contestant, check_losses, counted, described, ids_of, make_model, make_rows, publish, race, step_flops, table

BIG = dict(vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8) # of Llama-3.2-1B

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--rounds', type=int, default=20, help='measured steps of each')
    cli.add_argument('--batch', type=int, default=16, help='rows of a step')
    cli.add_argument('--quick', action='store_true', help='three rounds; the page stays as it is')
    a = cli.parse_args()
    import torch
    if not torch.cuda.is_available():
        print('gpu_train_step: no CUDA GPU here, nothing is measured')
        return
    rounds = 3 if a.quick else a.rounds
    model = make_model('llama-1b', BIG)
    path = make_rows(model, a.batch*(2*rounds+2))
    rows = ids_of(path)
    work = dict(model=str(model), rows=str(path), args=ARGS, lora=LORA, batch=a.batch)
    half,plain = dict(dtype='bfloat16', bf16=True),dict(gradient_checkpointing=False)
    PACKAGES['trl'] = [*PACKAGES['trl'], 'liger-kernel']
    PACKAGES['unsloth'] = ['unsloth']
    group = [Contestant('HF Trainer', 'trainer', work | half), Contestant('ours', 'ours', work | dict(precision='bf16')),
             Contestant('TRL, its defaults', 'trl', work | dict(dtype='bfloat16'), 'trl'), Contestant('TRL, no checkpointing, Liger', 'trl', work | half | plain | dict(use_liger_kernel=True), 'trl'),
             Contestant('TRL, padding-free, Liger', 'trl', work | half | plain | dict(padding_free=True, max_length=None, use_liger_kernel=True), 'trl'),
             Contestant('Unsloth, its defaults', 'unsloth', work, 'unsloth', same=False)]
    race(group, rounds)
    check_losses(group, 2e-2)
    batches = counted(rows, a.batch, rounds)
    def line(o):
        if o.why: return [o.name, o.why, None, None]
        wall = o.total('wall')
        tokens = sum(len(r['input_ids']) for b in batches for r in b)
        done = sum(step_flops(BIG, b) for b in batches)
        return [o.name, f'{tokens/wall:.0f}', f"{max(s['gpu_peak'] for s in o.steps):.0f}", f'{done/wall/1e12:.0f}']
    text = '\n\n'.join([f'{torch.cuda.get_device_name()} · ' + described(1, rounds), table(['', 'real tokens/s (wall)', 'peak GPU memory, MB', 'needed TFLOP/s'], [line(o) for o in group])])
    print('\n' + text) if a.quick else publish('gpu_train_step', text)

if __name__ == '__main__': main()
