"""Time until 90 % of the held-out answers of the bundled tone task are right, from the start of a new process: ours, TRL and Olive.

`python benchmarks/time_to_accuracy.py [--limit 150] [--quick]`; up to six minutes. The clock stands still while the model is asked.
"""
import argparse, json, shutil, subprocess, sys, time
from _common import CACHE, HERE, bar, described, environment, offline, publish, table

GOAL = .9
TEMPLATE = '<|start_header_id|>user<|end_header_id|>\n{phrase}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n{tone}'

def make_task():
    "The bundled model, its training rows and its held-out prompts, where the others can read them."
    from slm_magic.data import prepare
    from slm_magic.model import load_config, load_tokenizer
    from slm_magic.recipe import Recipe, tiny_model
    folder = CACHE/'tone'
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tiny_model(), folder/'model')
    path = folder/'model/tokenizer_config.json' # transformers 4 does not know the class that transformers 5 writes
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(tokenizer_class='PreTrainedTokenizerFast')))
    data = prepare(Recipe.make(line=dict(template=TEMPLATE)), load_tokenizer(tiny_model()), load_config(tiny_model()))
    (folder/'train.jsonl').write_text(''.join(json.dumps({k: o[k] for k in ('phrase', 'tone')}) + '\n' for o in data.train.rows))
    (folder/'held.json').write_text(json.dumps([dict(prompt=str(p), completion=c) for p,c in zip(data.eval.prompts, data.eval.completions)]))
    return folder, len(data.train), len(data.eval)

def olive_command(folder, *more):
    return ['finetune', '-m', str(folder/'model'), '-o', 'olive-tone', '-d', 'json', '--data_files', str(folder/'train.jsonl'), '--text_template', TEMPLATE.replace('\n', '\\n'),
            '--method', 'lora', '--use_cpu', 'True', '--dataloader_pin_memory', 'False', '--disable_telemetry', '--log_level', '3', '--num_train_epochs', '200', *more]

def run(folder, who, env, threads, limit, every, **options) -> list[dict]|str:
    "What `who` reported, a dictionary for each time it was asked; or why it did not run."
    try: python = environment(env) if env else sys.executable
    except RuntimeError as e: return f'not run: {e}'
    paths = dict(model=str(folder/'model'), rows=str(folder/'train.jsonl'), held=str(folder/'held.json'), template=TEMPLATE)
    (CACHE/'logs').mkdir(exist_ok=True)
    asked = dict(started=time.time(), every=every, goal=GOAL, limit=limit)
    res = subprocess.run([str(python), str(HERE/'_worker.py'), 'tone', json.dumps(dict(who=who, asked=asked, **paths, **options))], capture_output=True, text=True, cwd=CACHE/'logs', env=offline(threads))
    said = [json.loads(o)['step'] for o in res.stdout.splitlines()]
    return said or 'not run: ' + (res.stderr.strip().splitlines() or ['it said nothing'])[-1][:200]

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--threads', type=int, default=1, help='threads of each')
    cli.add_argument('--limit', type=float, default=150, help='CPU seconds after which one that has not got there is given up')
    cli.add_argument('--quick', action='store_true', help='ours only; the page stays as it is')
    a = cli.parse_args()
    folder,n,held = make_task()
    epochs = dict(num_train_epochs=200)
    runs = {'ours, its defaults': ('ours', '', 2, dict(num_train_epochs=3)),
            'TRL, its defaults': ('trl', 'trl', 25, epochs),
            "TRL, our learning rate and batch": ('trl', 'trl', 2, epochs | dict(per_device_train_batch_size=16)),
            'Olive, its defaults': ('olive', 'olive', 4, dict(command=olive_command(folder))),
            'Olive, our batch and rows of 128 tokens': ('olive', 'olive', 4, dict(command=olive_command(folder, '--max_seq_len', '128', '--per_device_train_batch_size', '16')))}
    lines,times = [],{}
    for name,(who,env,every,options) in runs.items():
        if a.quick and who != 'ours': continue
        if 'our learning rate' in name: options = options | dict(learning_rate=rate_of(folder))
        print(f'  {name}', flush=True)
        said = run(folder, who, env, a.threads, a.limit, every, **options)
        if isinstance(said, str):
            lines.append([name, said, *[None]*4])
            continue
        last = said[-1]
        there = last['accuracy'] >= GOAL
        times[name] = last['cpu'],there
        lines.append([name, f"{'' if there else 'not within '}{last['cpu']:.1f}", f"{last['wall']:.1f}", last['n'], f"{last['epoch']:.1f}", f"{last['accuracy']:.0%}"])
    ours,there = times.get('ours, its defaults', (None, False))
    others = [t for name,(t,_) in times.items() if name.startswith('Olive')]
    bars = [bar("the faster of Olive's two to ours, CPU seconds (the limit where it did not get there)", min(others)/ours if there and others else None, 5)]
    text = '\n\n'.join([described(a.threads), f'{n} rows to learn from, {held} held out; adapters of each one\'s default size.', table(['', f'CPU s to {GOAL:.0%}', 'wall s', 'steps', 'epochs', 'accuracy then'], lines), '\n'.join(bars)])
    print('\n' + text) if a.quick else publish('time_to_accuracy', text)

def rate_of(folder):
    "The learning rate that ours chooses for this model."
    from slm_magic.model import auto_learning_rate, load_config
    return auto_learning_rate(load_config(str(folder/'model')), 'lora')

if __name__ == '__main__': main()
