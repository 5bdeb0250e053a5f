"""`%optimize` beside what onnxruntime-genai's model builder makes by default and beside transformers: distance, size and speed, and what the search costs.

`python benchmarks/optimize.py [--rounds 7] [--quick]`; about fifteen minutes, and ten more the first time.
"""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path
from statistics import median
from _common import CACHE, SHAPE, bar, described, offline, publish, table

# The builder's own defaults for four bits on a CPU, as Olive and the documentation of onnxruntime-genai use them
BUILDER = '''
import sys
import onnxruntime_genai.models
from onnxruntime_genai.models.builder import create_model, parse_extra_options
source, out, cache = sys.argv[1:]
create_model(None, source, out, 'int4', 'cpu', cache, **parse_extra_options(None, source, out, 'int4', 'cpu', cache, ['hf_token=false']))
'''

def by_builder(subject, out:Path) -> Path:
    "The folder that the builder makes of a merged model."
    from slm_magic.export import save_source
    save_source(subject.merged, subject.tokenizer, out/'source')
    res = subprocess.run([sys.executable, '-P', '-c', BUILDER, out/'source', out/'builder', out/'cache'], capture_output=True, text=True, env=offline())
    if res.returncode: raise SystemExit(res.stderr[-2000:])
    return out/'builder'

def trained(steps=150) -> Path:
    "A run of a Llama of SmolLM2-135M's shape that learned the bundled task from nothing; made once. Distances between random weights rank nothing."
    folder = CACHE/f'm135-tone-{steps}'
    if folder.exists(): return folder
    import torch
    from slm_magic import finetune
    from slm_magic.model import load_tokenizer
    from slm_magic.recipe import tiny_model
    from transformers import LlamaConfig, LlamaForCausalLM
    start,tok = CACHE/'m135-start',load_tokenizer(tiny_model())
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5, pad_token_id=tok.pad_token_id, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id)).save_pretrained(start)
    tok.save_pretrained(start)
    with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
        threads = torch.get_num_threads()
        torch.set_num_threads(os.cpu_count())
        run = finetune(str(start), method='full', precision='bf16', max_steps=steps, learning_rate=3e-4, samples=0, name='m135', runs_dir=tmp, listeners=[])
        torch.set_num_threads(threads)
        os.rename(run.path, folder)
    return folder

def closest(subject, most:float, out:Path) -> tuple[str, Path]:
    "The candidate of `--precision int4` with the least KL of those that have at most `most` MB."
    from slm_magic.decoder import size_mb
    from slm_magic.subject import halves_of
    choose,_ = halves_of(subject)
    subject.read(choose, 'int4')
    out.mkdir()
    exported,found = subject.export(out/'fp32', choose.rows[:4], lambda: None, out),{}
    for plan in subject.plans(exported, 'int4', choose):
        plan.make(out/plan.name)
        if size_mb(out/plan.name) <= most: found[plan.name] = subject.gap(choose, out/plan.name)['kl']
    name = min(found, key=found.get)
    return name, out/name

def spent() -> float:
    "Processor seconds of this process and those it has waited for."
    return sum(os.times()[:4])

def timed(f):
    "What `f` gives, and its wall and processor seconds."
    wall,cpu = time.perf_counter(),spent()
    res = f()
    return res, time.perf_counter()-wall, spent()-cpu

def measure(what:str, thing, rounds:int, tmp:Path) -> tuple[str, list[tuple]]:
    "A table, and what the bars are about: (name, value, limit, least?)."
    from slm_magic.decoder import Decoder, size_mb
    from slm_magic.optimize import optimize
    from slm_magic.prove import distance, onnx_logits, open_genai, reference, speed, torch_speed
    from slm_magic.find_subject import find_subject
    whole,wall,cpu = timed(lambda: optimize(thing, output_path=tmp/'auto'))
    subject = find_subject(thing)
    subject.open()
    peer = by_builder(subject, tmp)
    small,at = closest(subject, size_mb(peer), tmp/'int4')
    rows,labels,_ = subject.rows()
    proof = range(1, min(len(rows), 96), 2) # every other row was used to choose
    rows,labels = [rows[i] for i in proof],[labels[i] for i in proof]
    exact = reference(subject.model, rows)
    folders = {"the builder's default int4": peer, f'ours, int4 of at most its size ({small})': at, f'ours, free choice ({whole.report["chosen"]})': whole.path}
    far = {k: distance(exact, onnx_logits(Decoder(v)), rows, labels) for k,v in folders.items()}
    opened,text = {k: open_genai(v) for k,v in folders.items()},sum(rows, [])[:128]
    runs = {k: lambda k=k: speed(opened[k], text, repeats=1) for k in folders} | {'transformers.generate, fp32': lambda: torch_speed(subject.merged, text, repeats=1)}
    said = [{k: f() for k,f in runs.items()} for _ in range(rounds)] # in turn: a busy machine slows them all
    def middle(k, what): return median(o[k][what] for o in said)
    def ratio(k, to, what): return median(o[k][what]/o[to][what] for o in said)
    lines = [[k, f'{size_mb(folders[k]):.2f}' if k in folders else f'{sum(p.numel() for p in subject.merged.parameters())*4e-6:.2f}', f"{far[k]['kl']:.1e}" if k in far else '0', f"{far[k]['top1']:.1%}" if k in far else '100.0%',
              f"{middle(k, 'tokens_per_s'):.0f}", f"{middle(k, 'prefill_tokens_per_s'):.0f}"] for k in runs]
    theirs,ours,free,torch = runs
    n = len(whole.report['candidates'])
    bars = [(f'{what}: KL of the builder\'s default int4 to ours of at most its size', far[theirs]['kl']/far[ours]['kl'], 10, True),
            (f'{what}: decode, ours of at most its size to the builder\'s', ratio(ours, theirs, 'tokens_per_s'), 1, True), (f'{what}: prefill, the same', ratio(ours, theirs, 'prefill_tokens_per_s'), 1.25, True),
            (f'{what}: decode, our free choice to transformers', ratio(free, torch, 'tokens_per_s'), 5, True), (f'{what}: prefill, the same', ratio(free, torch, 'prefill_tokens_per_s'), 1.6, True)]
    text = f'**{what}**: {len(rows)} rows, {sum(map(len, rows))} tokens; `%optimize` measured {n} candidates in {wall:.1f} s, {cpu:.1f} CPU s\n\n' + table(['', 'MB', 'KL', 'top-1', 'decode, tokens/s', 'prefill, tokens/s'], lines)
    return text, bars, wall, cpu

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--rounds', type=int, default=7, help='measurements of speed')
    cli.add_argument('--quick', action='store_true', help='the bundled model only; the page stays as it is')
    a = cli.parse_args()
    os.environ.update(offline())
    import torch
    torch.set_num_threads(1)
    from slm_magic import finetune
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        run = finetune(max_steps=200, samples=0, name='tone', runs_dir=tmp, listeners=[])
        parts = [measure('the bundled model, fine-tuned', run, a.rounds, tmp/'tone')]
        if not a.quick: parts.append(measure('the shape of SmolLM2-135M, trained on the same task', trained(), a.rounds, tmp/'shape'))
    bars = [bar(name, value, limit, least) for _,found,*_ in parts for name,value,limit,least in found] + [bar('optimize of the bundled model, seconds', parts[0][2], 15, least=False)]
    if not a.quick: bars.append(bar('search at 135M, CPU seconds', parts[1][3], 150, least=False))
    text = '\n\n'.join([described(1, a.rounds), *(o[0] for o in parts), '\n'.join(bars)])
    print('\n' + text) if a.quick else publish('optimize', text)

if __name__ == '__main__': main()
