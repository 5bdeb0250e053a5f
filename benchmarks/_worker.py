"""A contestant in a process of its own: `_worker.py KIND OPTIONS`. It takes a step each time a line comes in, and answers in JSON lines.

It runs in the environments of the others too, so it imports nothing but what the contestant itself uses.
"""
import json, os, sys, time

class Gate:
    "Stops before every step until it is told to go on, and measures from there to the next stop."
    def __init__(self):
        self.out = os.fdopen(os.dup(1), 'w')
        os.dup2(2, 1) # whatever the libraries print goes to the log
        self.base = self.since = None

    def say(self, **what): print(json.dumps(what), file=self.out, flush=True)

    def loaded(self, model):
        "The model is in memory: what is used from here on is what training takes."
        for o in model.parameters(): o.detach().sum() # read from the file's pages only now
        self.base = memory('VmRSS')
        try:
            with open('/proc/self/clear_refs', 'w') as f: f.write('5') # the peak starts anew
        except OSError: pass

    def ready(self):
        self.say(ready=True)
        self.wait()

    def wait(self):
        said = sys.stdin.readline()
        if not said: # nobody wants another step; the last loss is logged after it
            self.since = None
            return False
        self.keep = said.strip() == 'warm'
        self.since = time.perf_counter(),time.process_time()
        return True

    def step(self, **more):
        "A step is done. Returns whether another one is wanted."
        if self.since is None: return False
        more |= gpu_peak()
        wall,cpu = time.perf_counter()-self.since[0],time.process_time()-self.since[1]
        peak = memory('VmHWM')
        if not self.keep: return_freed()
        self.say(step=dict(wall=wall, cpu=cpu, peak=peak-self.base if self.base and peak else None, **more))
        return self.wait()

def memory(field):
    "MB of this process, by Linux's name for it; None elsewhere."
    try:
        for line in open('/proc/self/status'):
            if line.startswith(field): return int(line.split()[1])*1024/1e6
    except OSError: pass

def return_freed():
    "Give free memory back, as the others wait in memory too."
    import ctypes
    try: ctypes.CDLL('libc.so.6').malloc_trim(0)
    except (OSError, AttributeError): pass

def gpu_peak() -> dict:
    "When all that was sent to the GPU is done: the most memory it took [MB]. Nothing without one."
    import torch
    if not torch.cuda.is_available(): return {}
    torch.cuda.synchronize()
    return dict(gpu_peak=torch.cuda.max_memory_allocated()/1e6)

def steps_callback(gate, tokens=lambda: {}):
    "The `TrainerCallback` that puts the gate before every step."
    from transformers import TrainerCallback
    class Steps(TrainerCallback):
        def on_train_begin(self, *args, **kw): gate.ready()
        def on_step_end(self, args, state, control, **kw):
            if not gate.step(**tokens()): control.should_training_stop = True
        def on_log(self, args, state, control, logs=None, **kw):
            if 'loss' in logs: gate.say(loss=logs['loss'])
    return Steps()

def ours(gate, model, rows, args, lora, batch, **keys):
    "`finetune`, as the magic calls it."
    from slm_magic import train
    from slm_magic.run import Listener
    class Steps(Listener):
        def on_start(self, run, info):
            gate.say(engine=info['engine'])
            gate.ready()
        def on_step(self, run, step):
            if not gate.step(): run.request_stop()
        def on_log(self, run, row): gate.say(loss=row['loss'])
    apply_method = train.apply_method
    def noted(*a, **kw):
        res = apply_method(*a, **kw)
        gate.loaded(res)
        return res
    train.apply_method = noted # the one moment at which the model is loaded and training has not begun
    train.finetune(model, rows, template='{prompt} {completion}', eval=0, samples=0, max_steps=1000, per_device_train_batch_size=batch, train_sampling_strategy='sequential',
                   runs_dir=os.path.join(os.getcwd(), f'runs-{os.getpid()}'), listeners=[Steps()], **args, **lora, **keys)

def peft_model(gate, model, seed, lora, dtype):
    "The model with its adapter, the same random numbers for all."
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed
    base = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
    base.config.use_cache = False
    set_seed(seed)
    res = get_peft_model(base, LoraConfig(task_type='CAUSAL_LM', **lora))
    gate.loaded(res)
    return res

def trainer(gate, model, rows, args, lora, batch, dtype='float32', switch=None, **more):
    "transformers' own Trainer, padded batches, no checkpointing."
    import torch
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments
    if switch: torch.set_float32_matmul_precision(switch)
    data = json.load(open(rows[:-len('jsonl')] + 'ids'))
    t = Trainer(model=peft_model(gate, model, args['seed'], lora, dtype), train_dataset=data, data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(model)), callbacks=[steps_callback(gate)],
                args=TrainingArguments('out', **args, max_steps=1000, per_device_train_batch_size=batch, train_sampling_strategy='sequential', use_cpu=not torch.cuda.is_available(),
                                       report_to='none', disable_tqdm=True, dataloader_pin_memory=False, **more))
    t.train()

def trl(gate, model, rows, args, lora, batch, dtype='float32', switch=None, **more):
    "TRL's SFTTrainer."
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    if switch: torch.set_float32_matmul_precision(switch)
    data = Dataset.from_list(json.load(open(rows[:-len('jsonl')] + 'ids')))
    SFTTrainer(model=peft_model(gate, model, args['seed'], lora, dtype), train_dataset=data, processing_class=AutoTokenizer.from_pretrained(model), callbacks=[steps_callback(gate)],
               args=SFTConfig('out', **args, max_steps=1000, per_device_train_batch_size=batch, train_sampling_strategy='sequential', use_cpu=not torch.cuda.is_available(),
                              report_to='none', disable_tqdm=True, dataloader_pin_memory=False, **more)).train()

def unsloth(gate, model, rows, args, lora, batch):
    "Unsloth's own loading and checkpointing, in TRL's trainer."
    from unsloth import FastLanguageModel
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
    base,tokenizer = FastLanguageModel.from_pretrained(model, max_seq_length=1024, load_in_4bit=False)
    layers = 'q_proj k_proj v_proj o_proj gate_proj up_proj down_proj'.split()
    tuned = FastLanguageModel.get_peft_model(base, **{**lora, 'target_modules': layers}, random_state=args['seed'])
    gate.loaded(tuned)
    SFTTrainer(model=tuned, train_dataset=Dataset.from_list(json.load(open(rows[:-len('jsonl')] + 'ids'))), processing_class=tokenizer, callbacks=[steps_callback(gate)],
               args=SFTConfig('out', **args, max_steps=1000, per_device_train_batch_size=batch, report_to='none', disable_tqdm=True)).train()

def count_tokens(model, seen):
    "Let `seen` learn how many real tokens each step is given."
    def look(module, args, kw):
        mask,ids = kw.get('attention_mask'),kw['input_ids']
        seen['tokens'] = seen.get('tokens', 0) + int(mask.sum() if mask is not None else ids.numel())
    model.register_forward_pre_hook(look, with_kwargs=True)

def olive(gate, command):
    "The command line of Olive; its own training code, with the gate in the Trainer it makes."
    from transformers import Trainer
    seen,train = {},Trainer.train
    def gated(self, *args, **kw):
        gate.loaded(self.model)
        count_tokens(self.model, seen)
        self.add_callback(steps_callback(gate, lambda: dict(tokens=seen.pop('tokens'))))
        return train(self, *args, **kw)
    Trainer.train = gated
    from olive.cli.launcher import main
    main(command)

def limit(gate, setting, size=1024, tries=12):
    "No training: how fast this processor multiplies fp32 matrices, the best of several."
    import torch
    torch.set_float32_matmul_precision(setting)
    a,b = torch.randn(size, size),torch.randn(size, size)
    def once():
        start = time.process_time()
        for _ in range(4): a @ b
        return (time.process_time()-start)/4
    once()
    gate.ready()
    while gate.since is not None: gate.step(gflops=2e-9*size**3/min(once() for _ in range(tries)))

# -- time to an accuracy -----------------------------------------------------------------------------------------------------

def says_right(model, tokenizer, held, batch=60) -> float:
    "Share of the held-out prompts to which the greedy answer begins with the expected one; what follows is not looked at, as not everybody teaches an end."
    import torch
    tokenizer.padding_side,was_training,right = 'left',model.training,0
    model.eval()
    with torch.no_grad():
        for i in range(0, len(held), batch):
            part = held[i:i+batch]
            made = tokenizer([o['prompt'] for o in part], return_tensors='pt', padding=True, add_special_tokens=False)
            wanted = [tokenizer(o['completion'], add_special_tokens=False).input_ids for o in part]
            made.pop('token_type_ids', None)
            out = model.generate(**made, max_new_tokens=max(map(len, wanted)), do_sample=False, use_cache=True, pad_token_id=tokenizer.pad_token_id)[:, made['input_ids'].shape[1]:]
            right += sum(tokenizer.decode(o[:len(w)]).strip() == c['completion'].strip() for o,w,c in zip(out.tolist(), wanted, part))
    model.train(was_training)
    return right/len(held)

def accuracy_callback(gate, held, tokenizer, started, every, goal, limit):
    "The `TrainerCallback` that asks for the answers every so many steps, with the clock stopped, and ends at the goal or the limit [CPU seconds]."
    from transformers import TrainerCallback
    class Accuracy(TrainerCallback):
        away = [0., 0.] # wall and CPU seconds spent on asking
        def on_step_end(self, args, state, control, model=None, **kw):
            if state.global_step % every and state.global_step < state.max_steps: return
            wall,cpu = time.time(),time.process_time()
            share,cache = says_right(model, tokenizer, held),model.config.use_cache
            gate.say(step=dict(n=state.global_step, epoch=state.epoch, accuracy=share, wall=wall-started-self.away[0], cpu=cpu-self.away[1]))
            self.away = [self.away[0]+time.time()-wall, self.away[1]+time.process_time()-cpu]
            if share >= goal or cpu-self.away[1] > limit: control.should_training_stop = True
    return Accuracy()

def tone(gate, who, model, rows, held, template, asked, command=None, **more):
    "The bundled task: `who` trains on `rows`, and is asked as `asked` says."
    from transformers import AutoTokenizer
    def callback(): return accuracy_callback(gate, json.load(open(held)), AutoTokenizer.from_pretrained(model), **asked)
    if who == 'ours':
        from slm_magic import train
        make_trainer = train.make_trainer
        def watched(*args, **kw):
            trainer = make_trainer(*args, **kw)
            trainer.add_callback(callback())
            return trainer
        train.make_trainer = watched
        train.finetune(None, rows, template=template, eval=0, samples=0, listeners=[], runs_dir=os.path.join(os.getcwd(), f'runs-{os.getpid()}'), **more)
    if who == 'trl':
        from datasets import Dataset
        from peft import LoraConfig
        from trl import SFTConfig, SFTTrainer
        data = [json.loads(l) for l in open(rows)]
        before,_,after = template.rpartition('{tone}')
        data = Dataset.from_list([dict(prompt=before.format(**o), completion=o['tone'] + after) for o in data])
        SFTTrainer(model=model, train_dataset=data, peft_config=LoraConfig(task_type='CAUSAL_LM'), callbacks=[callback()],
                   args=SFTConfig('out', report_to='none', save_strategy='no', disable_tqdm=True, use_cpu=True, **more)).train()
    if who == 'olive':
        from transformers import Trainer
        train_ = Trainer.train
        def watched(self, *args, **kw):
            self.add_callback(callback())
            return train_(self, *args, **kw)
        Trainer.train = watched
        from olive.cli.launcher import main
        main(command)

if __name__ == '__main__':
    kind,options = sys.argv[1],json.loads(sys.argv[2])
    if n := os.environ.get('OMP_NUM_THREADS'):
        import torch
        torch.set_num_threads(int(n))
    dict(ours=ours, trainer=trainer, trl=trl, unsloth=unsloth, olive=olive, limit=limit, tone=tone)[kind](Gate(), **options)
