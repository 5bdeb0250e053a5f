"What all benchmarks share: the model and rows they run on, processes that take steps in turn, and tables that are written, never typed."
import datetime, json, os, platform, random, subprocess, sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get('SLM_BENCH_CACHE', HERE/'.cache'))
README = HERE/'README.md'
PROMPT,ANSWER = (100, 280), (10, 50) # tokens of a row, evenly drawn: about 880 in a batch of four, 1140 padded, 120 learned
LORA = dict(r=16, lora_alpha=32, lora_dropout=0., target_modules='all-linear')
# what every contestant trains with, in the words of `TrainingArguments`; the rows come in the order of the file
ARGS = dict(learning_rate=1e-4, lr_scheduler_type='constant', weight_decay=0., max_grad_norm=1., logging_steps=1, save_strategy='no', seed=42)
SHAPE = dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3) # of SmolLM2-135M
TINY = dict(vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)

def offline(threads=1) -> dict:
    "Environment of a contestant: so many threads, no network, no telemetry."
    n = str(threads)
    return {**os.environ, 'OMP_NUM_THREADS': n, 'MKL_NUM_THREADS': n, 'HF_HUB_OFFLINE': '1', 'ORT_DISABLE_TELEMETRY': '1', 'OLIVE_DISABLE_TELEMETRY': '1', 'TOKENIZERS_PARALLELISM': 'false',
            'HF_HOME': str(CACHE/'hf'), 'PYTHONPATH': str(HERE.parent)}

# Environments of the others: PyPI names and versions. torch is the version that is installed here.
PACKAGES = dict(trl=['trl==1.16.0', 'transformers==5.23.0', 'peft==0.21.2'], olive=['olive-ai==0.12.1', 'transformers==4.57.6', 'peft==0.21.2', 'accelerate==1.15.0', 'datasets==5.0.1'])

def environment(name:str) -> Path:
    "The interpreter of a contestant's own environment, made when it is not there; `RuntimeError` says why it cannot be."
    folder = CACHE/f'env-{name}'
    python,done = folder/('Scripts/python.exe' if os.name == 'nt' else 'bin/python'),folder/'.done'
    wanted = '\n'.join(PACKAGES[name])
    if done.exists() and done.read_text() == wanted: return python
    print(f'installing {wanted.splitlines()[0]} into {folder}', flush=True)
    torch = f"torch=={version('torch').partition('+')[0]}"
    more = os.environ.get('PIP_ARGS', '').split() # as in the Makefile: another index for torch alone
    for o in [[sys.executable, '-m', 'venv', folder], [python, '-m', 'pip', 'install', '-qq', *more, torch], [python, '-m', 'pip', 'install', '-qq', torch, *PACKAGES[name]]]:
        res = subprocess.run(o, capture_output=True, text=True)
        if res.returncode: raise RuntimeError((res.stderr.strip() or 'pip failed').splitlines()[-1][:200])
    done.write_text(wanted)
    return python

# -- model and rows ----------------------------------------------------------------------------------------------------------

def make_model(name:str, shape:dict) -> Path:
    "A Llama of `shape` with random weights and a tokenizer of its own, one word a token; made once."
    folder = CACHE/name
    if (folder/'.done').exists(): return folder
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    words = ['<pad>', '<s>', '</s>', '<unk>', *(f'w{i}' for i in range(shape['vocab_size']-4))]
    raw = Tokenizer(models.WordLevel({w: i for i,w in enumerate(words)}, unk_token='<unk>'))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token='<pad>', bos_token='<s>', eos_token='</s>', unk_token='<unk>', model_max_length=2048)
    torch.manual_seed(0)
    # larger than the usual 0.02, so that the model has opinions and a wrong step shows in the loss
    model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=.04, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    path = folder/'tokenizer_config.json' # transformers 4 does not know the class that transformers 5 writes
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(tokenizer_class='PreTrainedTokenizerFast')))
    (folder/'.done').touch()
    return folder

def make_rows(model:Path, n:int, prompt=PROMPT, answer=ANSWER, common:int=0) -> Path:
    "`n` rows of random words as JSON lines, and beside them the token ids and labels that our own data code makes of them. The first `common` words of all prompts are the same, as in an instruction."
    path = model/f"rows-{n}-{'-'.join(map(str, (*prompt, *answer, *(common,)*bool(common))))}.jsonl"
    if path.with_suffix('.ids').exists(): return path
    rng,vocabulary = random.Random(0),json.loads((model/'config.json').read_text())['vocab_size']
    def words(between): return ' '.join(f'w{rng.randrange(vocabulary-4)}' for _ in range(rng.randint(*between)))
    first = [words((common, common))] if common else []
    rows = [dict(prompt=' '.join([*first, words([o-common for o in prompt])]), completion=words(answer)) for _ in range(n)]
    long = sorted(range(n), key=lambda i: -len(rows[i]['prompt'] + rows[i]['completion']))[:4] # they come first: memory has its size before anything is measured
    path.write_text(''.join(json.dumps(rows[i]) + '\n' for i in [*long, *(i for i in range(n) if i not in long)]))
    from slm_magic.data import prepare
    from slm_magic.model import load_config, load_tokenizer
    from slm_magic.recipe import Recipe
    recipe = Recipe.make(line=dict(model=str(model), data=str(path), eval=0, template='{prompt} {completion}'))
    made = prepare(recipe, load_tokenizer(str(model)), load_config(str(model))).train
    path.with_suffix('.ids').write_text(json.dumps([dict(input_ids=a, labels=b) for a,b in zip(made.input_ids, made.labels)]))
    return path

def ids_of(rows:Path) -> list[dict]: return json.loads(rows.with_suffix('.ids').read_text())

def step_flops(shape:dict, rows:list[dict], r:int=16) -> float:
    """Floating-point operations that a LoRA step over `rows` cannot do without, padding and recomputation not counted.

    A product of [T, n] and [n, m] is 2·T·n·m. A frozen linear layer is one product forward and one backward (to its input; none
    where nothing below is trained: the queries, keys and values of the first layer). LoRA adds three products for each of A and B, with the same exception. The head
    counts for learned tokens only, forward and back. Causal attention is two products forward and four backward over L²/2 pairs per row.
    """
    d,f,layers = shape['hidden_size'],shape['intermediate_size'],shape['num_hidden_layers']
    kv = d*shape['num_key_value_heads']//shape['num_attention_heads']
    sizes = [(d, d), (d, kv), (d, kv), (d, d), (d, f), (d, f), (f, d)]
    T,learned = sum(len(o['input_ids']) for o in rows),sum(l != -100 for o in rows for l in o['labels'][1:])
    linear = 4*T*(layers*sum(a*b for a,b in sizes)) - 2*T*sum(a*b for a,b in sizes[:3])
    lora = 6*T*r*layers*sum(a+b for a,b in sizes) - 2*T*r*3*d
    head = 4*learned*d*shape['vocab_size']
    attention = layers*sum(6*2*d*len(o['input_ids'])**2/2 for o in rows)
    return linear + lora + head + attention

# -- contestants -------------------------------------------------------------------------------------------------------------

@dataclass
class Contestant:
    "A way to train, run by `_worker.py` in a process of its own."
    name:str               # in the table
    kind:str               # function of the worker: ours, trainer, trl, olive, limit
    options:dict = field(default_factory=dict) # what it is called with
    env:str = ''           # key of `PACKAGES`, or '' for this interpreter
    same:bool = True       # does it learn the same tokens in the same batches, so that its losses must be ours?
    why:str = ''           # why it was not run
    steps:list = field(default_factory=list)   # {wall, cpu, peak, tokens, …} of each measured round
    losses:list = field(default_factory=list)  # of every step, the first included

    def start(self, threads):
        "Start the process and wait until its model is loaded and it could take a step."
        log = CACHE/'logs'
        log.mkdir(parents=True, exist_ok=True)
        self.log = log/f"{''.join(c if c.isalnum() else '-' for c in self.name)}.txt"
        try: python = environment(self.env) if self.env else sys.executable
        except RuntimeError as e:
            self.why = f'not run: {e}'
            return
        self.process = subprocess.Popen([str(python), str(HERE/'_worker.py'), self.kind, json.dumps(self.options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.log, 'w'),
                                        text=True, env=offline(threads), cwd=self.log.parent)
        self.listen('ready')

    def listen(self, until):
        "Read its lines up to the one of kind `until`."
        for line in self.process.stdout:
            said = json.loads(line)
            if 'loss' in said: self.losses.append(said['loss'])
            if until in said: return said[until]
        self.process.wait()
        last = [o for o in self.log.read_text(errors='replace').splitlines() if o.strip()][-1:] or ['it said nothing']
        self.why = f'not run: {last[0][:200]}'

    def step(self, word='go'):
        "One step, reported. After `warm` it keeps its free memory, as another step follows at once."
        try:
            self.process.stdin.write(word + '\n')
            self.process.stdin.flush()
        except BrokenPipeError: pass # it has ended, and the log says why
        return self.listen('step')

    def end(self):
        "Let it run out of steps, and read the last loss."
        if self.why: return
        self.process.stdin.close()
        for line in self.process.stdout:
            said = json.loads(line)
            if 'loss' in said: self.losses.append(said['loss'])
        self.process.wait()

    def stop(self):
        if getattr(self, 'process', None) and self.process.poll() is None: self.process.kill()

    def middle(self, key): return median(o[key] for o in self.steps)
    def total(self, key): return sum(o[key] for o in self.steps)

def race(contestants:list[Contestant], rounds:int, threads:int=1):
    "All take a step to warm up, then two in turn `rounds` times, of which the second counts; a contestant that fails says why and drops out."
    try:
        for o in contestants:
            print(f'  starting {o.name}', flush=True)
            o.start(threads)
            if not o.why: o.step()
            if o.why: print(f'    {o.why}', flush=True)
        for i in range(rounds):
            print(f'  round {i+1} of {rounds}, load {os.getloadavg()[0]:.1f}', flush=True)
            for o in contestants:
                if o.why: continue
                o.step('warm') # takes back the memory that it gave away while the others worked, which in a run nobody does
                if not o.why and (said := o.step()): o.steps.append(said)
        for o in contestants: o.end()
    finally:
        for o in contestants: o.stop()

def counted(rows:list[dict], batch:int, rounds:int) -> list[list[dict]]:
    "The batches of the steps that count in a race."
    return [rows[(2*i+2)*batch:(2*i+3)*batch] for i in range(rounds)]

def check_losses(contestants:list[Contestant], rtol:float):
    "Every contestant that does the same work has the losses of the first, or the benchmark is worth nothing."
    first,*others = [o for o in contestants if o.same and o.losses and not o.why]
    for o in others:
        n = min(len(first.losses), len(o.losses))
        assert n, f'{o.name} reported no loss'
        for i,(a,b) in enumerate(zip(first.losses, o.losses), 1):
            if abs(a-b) > rtol*abs(b): raise SystemExit(f'step {i}: {o.name} has loss {b:.6f} and {first.name} {a:.6f}; they do not do the same work')
    print(f'  losses of {1+len(others)} contestants agree within {rtol:g}')

# -- what came of it ---------------------------------------------------------------------------------------------------------

def processor() -> str:
    "Name and features of the processor."
    try: lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError: return platform.processor() or platform.machine()
    def of(key): return next((l.split(':', 1)[1].strip() for l in lines if l.startswith(key)), '')
    flags = set(of('flags').split())
    return f"{of('model name')} (family {of('cpu family')}, {' '.join(o for o in ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16') if o in flags)}), {os.cpu_count()} cores"

def described(threads:int=1, rounds:int=None) -> str:
    "When and on what, for the head of a table."
    versions = ', '.join(f'{o} {version(o)}' for o in ('slm_magic', 'torch', 'transformers', 'peft'))
    parts = [f'{datetime.date.today()}', f"{threads} thread{'s'*(threads != 1)} for each", f'{rounds} rounds' if rounds else '', 'load average at the end ' + ' '.join(f'{o:.1f}' for o in os.getloadavg()), versions]
    return ' · '.join(o for o in parts if o)

def table(head:list[str], rows:list[list]) -> str:
    "A Markdown table; numbers to the right."
    def cell(o): return '–' if o is None else str(o).replace('|', '/').replace('\n', ' ')
    lines = [head, ['---', *['---:']*(len(head)-1)], *rows]
    return '\n'.join('| ' + ' | '.join(map(cell, o)) + ' |' for o in lines)

def bar(what:str, value:float|None, limit:float, least:bool=True, form='{:.2f}') -> str:
    "A line that says whether a bar is reached."
    if value is None: return f'- not measured: {what}'
    good = value >= limit if least else value <= limit
    return f"- {'pass' if good else 'FAIL'}: {what}: {form.format(value)} ({'at least' if least else 'at most'} {form.format(limit)})"

def publish(name:str, text:str, path:Path=README):
    "Print `text`, and put it between the markers of `name` in the README, under this processor; what others have measured there stays."
    print('\n' + text + '\n', flush=True)
    start,end = f'<!-- {name} -->',f'<!-- /{name} -->'
    page = path.read_text(encoding='utf-8')
    before,found,rest = page.partition(start)
    said,closed,after = rest.partition(end)
    if not found or not closed: raise ValueError(f'{path.name} has no {start} … {end}')
    parts = {o.partition('\n')[0].strip(): o.partition('\n')[2].strip() for o in said.split('\n### ')[1:]} | {processor(): text.strip()}
    path.write_text(before + start + '\n' + '\n\n'.join(f'### {k}\n\n{v}' for k,v in sorted(parts.items())) + '\n' + end + after, encoding='utf-8')
