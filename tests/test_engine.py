"The fast step is the model's own step: loss and every gradient, for many architectures and settings."
import copy
import pytest, torch, transformers
from peft import LoraConfig, get_peft_model
from slm_magic.engine import accelerate_step, differences, gradients, checkable
from slm_magic.heads import pad_batch
from slm_magic.patches import unwrapped

common = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)
gpt2 = dict(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)
# class of the configuration, what is special, the parts that must be active
archs = {
    'llama': ('LlamaConfig', {}, 'attention LoRA norms rotary MLP last-layer'), 'llama tied': ('LlamaConfig', dict(tie_word_embeddings=True), 'attention LoRA norms rotary MLP last-layer'),
    'llama bias': ('LlamaConfig', dict(attention_bias=True, mlp_bias=True), 'attention LoRA norms rotary MLP last-layer'), 'llama yarn': ('LlamaConfig', dict(rope_parameters=dict(rope_type='yarn', factor=2., rope_theta=1e4)), 'attention LoRA norms rotary MLP last-layer'),
    'qwen2': ('Qwen2Config', {}, 'attention LoRA norms rotary MLP last-layer'), 'qwen3': ('Qwen3Config', dict(head_dim=8), 'attention LoRA norms rotary MLP last-layer'), 'phi3': ('Phi3Config', {}, 'attention LoRA norms rotary MLP last-layer'),
    'gemma2': ('Gemma2Config', dict(head_dim=8, query_pre_attn_scalar=8), 'LoRA norms rotary MLP last-layer'),
    'gemma3': ('Gemma3TextConfig', dict(head_dim=8, sliding_window=128), 'attention LoRA norms rotary MLP last-layer'), 'gemma3 window': ('Gemma3TextConfig', dict(head_dim=8, sliding_window=8), 'LoRA norms rotary MLP last-layer'),
    'mistral': ('MistralConfig', dict(sliding_window=None), 'attention LoRA norms rotary MLP last-layer'), 'mistral window': ('MistralConfig', dict(sliding_window=8), 'LoRA norms rotary MLP last-layer'), 'olmo2': ('Olmo2Config', {}, 'attention LoRA norms rotary MLP last-layer'),
    'smollm3': ('SmolLM3Config', {}, 'attention LoRA norms rotary MLP last-layer'), 'granite': ('GraniteConfig', dict(logits_scaling=3., embedding_multiplier=2., attention_multiplier=.2), 'attention LoRA norms rotary MLP last-layer'),
    'gpt2': ('GPT2Config', dict(attn_pdrop=0., embd_pdrop=0., resid_pdrop=0.), 'attention last-layer'), 'gpt2 dropout': ('GPT2Config', {}, 'last-layer')}

def make(name, precision=torch.float32, **lora):
    "A tiny model of an architecture with random weights, LoRA on all layers and no zero in it"
    cls,more,_ = archs[name]
    torch.manual_seed(0)
    config = getattr(transformers, cls)(**(gpt2 if cls == 'GPT2Config' else common) | more)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model = get_peft_model(model, LoraConfig(**dict(r=4, target_modules='all-linear', task_type='CAUSAL_LM', fan_in_fan_out=cls == 'GPT2Config') | lora)) if lora is not None else model
    for n,p in model.named_parameters():
        if 'lora_B' in n: p.data.normal_(0, .1)
    return model

def rows_of(*lengths, prefix=()):
    g = torch.Generator().manual_seed(3)
    res = []
    for n in lengths:
        ids = [1, *prefix, *torch.randint(3, 97, (n,), generator=g).tolist()]
        learned = max(1, n//3)
        res.append(dict(input_ids=ids, labels=[-100]*(len(ids)-learned)+ids[-learned:]))
    return res

def ours_and_stock(model, rows, **kwargs):
    with checkable(model) as params:
        with accelerate_step(model, rows[:2], stock='as asked for') as engine: stock = gradients(engine, engine.collate(rows), params)
        stock = stock[0],[o.clone() for o in stock[1]]
        with accelerate_step(model, rows[:2], longest=max(len(o['input_ids']) for o in rows), **kwargs) as engine: return engine, differences(gradients(engine, engine.collate(rows), params), stock)

@pytest.mark.parametrize('name', archs)
def test_exact(name):
    "Loss and gradients of the patched step are those of the model, with a common beginning and rows of many lengths"
    engine,diff = ours_and_stock(make(name), rows_of(3, 31, 12, 7, prefix=[5, 6, 7, 8]))
    assert diff['total'] < 1e-5 and diff['worst'] < 3e-5 and diff['loss'] < 1e-5, diff
    assert engine.packed and engine.fused_loss, str(engine)
    assert {k for k,why in engine.active.items() if not why} == set(archs[name][2].split()), str(engine)

@pytest.mark.parametrize('name', archs)
def test_rows_keep_apart(name):
    "A row's loss and gradients are the same alone and beside any neighbours"
    model,rows = make(name),rows_of(9, 17, 5)
    with checkable(model) as params, accelerate_step(model, rows[:2], longest=18) as engine:
        assert engine.packed
        def summed(batch):
            for p in params: p.grad = None
            total,_ = engine.loss_sum(engine.collate(batch))
            total.backward()
            return float(total.detach()),[p.grad.clone() for p in params]
        together,alone = summed(rows),[summed([o]) for o in rows]
        parts = sum(o[0] for o in alone),[sum(gs) for gs in zip(*(o[1] for o in alone))]
        diff = differences(together, parts)
    assert diff['total'] < 1e-5 and diff['loss'] < 1e-6, diff

def test_scores_are_fp32():
    "Products in bf16 are for training; held-out rows are scored as the model itself scores them"
    model,rows = make('llama'),rows_of(3, 31, 12)
    with accelerate_step(model, rows, stock='as asked for') as engine, torch.inference_mode(): exact = engine.losses(engine.collate(rows))[0]
    with accelerate_step(model, rows, precision='bf16') as engine:
        assert engine.bf16 and engine.packed
        rounded = engine.losses(engine.collate(rows))[0].detach()
        with torch.inference_mode(): scored = engine.losses(engine.collate(rows))[0]
    assert float((scored-exact).abs().max()) < 1e-5 < float((rounded-exact).abs().max())

@pytest.mark.parametrize('lora,why', [(dict(lora_dropout=.1), 'dropout'), (dict(use_dora=True), 'variant'), (dict(lora_bias=True), 'bias')], ids=['dropout', 'dora', 'bias'])
def test_falls_back(lora, why):
    "What the fused layer cannot do keeps PEFT's path, and the step stays exact"
    engine,diff = ours_and_stock(make('llama', **lora), rows_of(3, 31, 12))
    assert why in engine.active['LoRA'] and diff['total'] < 1e-5, str(engine)

@pytest.mark.parametrize('more', [dict(target_modules=['q_proj', 'lm_head']), dict(modules_to_save=['lm_head'])], ids=['lora on the head', 'head trained whole'])
def test_trained_head(more):
    engine,diff = ours_and_stock(make('llama', **more), rows_of(3, 31, 12))
    assert engine.packed and diff['total'] < 1e-5 and diff['worst'] < 3e-5, (str(engine), diff)

@pytest.mark.parametrize('tied', [False, True])
def test_full(tied):
    "All weights trained: norms and head have gradients too"
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**common, tie_word_embeddings=tied))
    engine,diff = ours_and_stock(model, rows_of(3, 31, 12, 7))
    assert engine.packed and engine.fused_loss and diff['total'] < 1e-5 and diff['worst'] < 3e-5, (str(engine), diff)

def test_padding_side_does_not_matter():
    "The stock step on left-padded rows gives what the packed one gives"
    model,rows = make('llama'),rows_of(3, 31, 12)
    with checkable(model) as params:
        right = pad_batch(rows, 0)
        left = {k: torch.stack([torch.roll(row, int((mask == 0).sum())) for row,mask in zip(v, right['attention_mask'])]) for k,v in right.items()}
        with accelerate_step(model, rows, stock='as asked for') as engine: stock = gradients(engine, left, params)
        stock = stock[0],[o.clone() for o in stock[1]]
        with accelerate_step(model, rows) as engine: diff = differences(gradients(engine, engine.collate(rows), params), stock)
    assert diff['total'] < 1e-5, diff

def test_bf16():
    "Products in bf16, the rest in fp32: a cosine of more than 0.99 with the exact gradient"
    engine,diff = ours_and_stock(make('llama'), rows_of(3, 31, 12, 7), precision='bf16')
    assert engine.bf16 and diff['cosine'] > .99 and diff['loss'] < .01, diff

def test_checkpointing():
    "What is computed a second time in the backward pass is the same, the last layer's learned tokens included"
    model,rows = make('llama'),rows_of(3, 31, 12)
    with accelerate_step(model, rows) as engine:
        params = [p for p in model.parameters() if p.requires_grad]
        plain = gradients(engine, engine.collate(rows), params)
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(dict(use_reentrant=False))
        model.train()
        seen = []
        hook = unwrapped(model).model.layers[-1].mlp.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[1]))
        diff = differences(gradients(engine, engine.collate(rows), params), plain)
        hook.remove()
    assert seen == [sum(l != -100 for o in rows for l in o['labels'])]*2 and diff['total'] < 1e-5 and diff['worst'] < 3e-5, (seen, diff)

def test_a_wrong_patch_stays_off(monkeypatch):
    "A patch that computes something else is found and switched off; the others stay"
    import slm_magic.patches as lib
    def wrong(model, undo, **_):
        for m in model.modules():
            if type(m).__name__ == 'LlamaRMSNorm': lib.set_forward(undo, m, lambda self,x: x*self.weight*1.01)
        return ''
    monkeypatch.setitem(lib.PATCHES, 'norms', wrong)
    engine,diff = ours_and_stock(make('llama'), rows_of(3, 31, 12))
    assert 'differed' in engine.active['norms'] and not engine.active['attention'] and not engine.active['LoRA'] and diff['total'] < 1e-5, str(engine)

def test_model_is_itself_again():
    model = make('llama')
    before = copy.deepcopy(model.state_dict())
    with accelerate_step(model, rows_of(3, 9)): pass
    assert not any('forward' in m.__dict__ for m in model.modules()) and model.config._attn_implementation == 'sdpa'
    assert all(torch.equal(a, b) for a,b in zip(before.values(), model.state_dict().values()))
    assert torch.get_float32_matmul_precision() == 'highest'
