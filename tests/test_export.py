"""Architectures, each tiny with random weights: an ONNX folder that computes what PyTorch computes and answers in onnxruntime-genai,
or a line that says why there is none."""
import re
import pytest
import torch
import transformers as tf
from slm_magic import RecipeError
from slm_magic.decoder import Decoder, size_mb
from slm_magic.export import LOGITS_MAX, edge_of, export_onnx, gate_rows, passes
from slm_magic.model import load_tokenizer
from slm_magic.prove import genai_tokens, greedy_tokens, open_genai
from slm_magic.quantize import HEAD, Scheme, hessian_of, hessians, quantize
from slm_magic.recipe import tiny_model

EDGE = 64 # where windows end and where stretched positions begin
small = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=.2)
gemma = dict(small, head_dim=16, query_pre_attn_scalar=16)
stretched = dict(rope_theta=1e4, factor=4.)
longrope = dict(rope_type='longrope', rope_theta=1e4, short_factor=[1.]*8, long_factor=[1.5+.3*i for i in range(8)], original_max_position_embeddings=EDGE)
models = {
    'llama': (tf.LlamaConfig, dict(small, tie_word_embeddings=True)),
    'llama-untied': (tf.LlamaConfig, small),
    'llama-llama3': (tf.LlamaConfig, dict(small, rope_parameters=dict(stretched, rope_type='llama3', low_freq_factor=1., high_freq_factor=4., original_max_position_embeddings=EDGE))),
    'llama-yarn': (tf.LlamaConfig, dict(small, rope_parameters=dict(stretched, rope_type='yarn', original_max_position_embeddings=EDGE))),
    'llama-linear': (tf.LlamaConfig, dict(small, rope_parameters=dict(stretched, rope_type='linear'))),
    'llama-dynamic': (tf.LlamaConfig, dict(small, rope_parameters=dict(stretched, rope_type='dynamic'))),
    'llama-odd-heads': (tf.LlamaConfig, dict(small, hidden_size=96)),
    'qwen2': (tf.Qwen2Config, dict(small, tie_word_embeddings=True)),
    'qwen3': (tf.Qwen3Config, dict(small, head_dim=32, tie_word_embeddings=True)),
    'phi3': (tf.Phi3Config, small),
    'phi3-longrope': (tf.Phi3Config, dict(small, original_max_position_embeddings=EDGE, rope_parameters=longrope)),
    'gemma': (tf.GemmaConfig, dict(small, head_dim=16)),
    'gemma2': (tf.Gemma2Config, dict(gemma, sliding_window=EDGE)),
    'gemma3': (tf.Gemma3TextConfig, dict(gemma, sliding_window=EDGE, layer_types=['sliding_attention', 'full_attention'])),
    'smollm3': (tf.SmolLM3Config, dict(small, tie_word_embeddings=True, no_rope_layers=[1, 0])),
    'mistral': (tf.MistralConfig, dict(small, sliding_window=None)),
    'mistral-window': (tf.MistralConfig, dict(small, sliding_window=EDGE)),
    'olmo2': (tf.Olmo2Config, small),
    'granite': (tf.GraniteConfig, dict(small, logits_scaling=4., residual_multiplier=.5, embedding_multiplier=3., attention_multiplier=.25)),
    'gpt2': (tf.GPT2Config, dict(n_embd=64, n_layer=2, n_head=4, n_positions=256, initializer_range=.2)),
    'gpt_neox': (tf.GPTNeoXConfig, {k: v for k,v in small.items() if k != 'num_key_value_heads'}),
    'mixtral': (tf.MixtralConfig, dict(small, num_local_experts=4)),
    'mamba': (tf.MambaConfig, dict(hidden_size=32, num_hidden_layers=1, state_size=4)),
}
refused = dict(mamba='keeps no keys and values') # architectures that end with this line
fast = 'llama', 'gemma3', 'gpt2', 'mistral-window'

def toy(name, tok):
    "A model of random weights, the same at each call"
    cls,options = models[name]
    torch.manual_seed(0)
    return tf.AutoModelForCausalLM.from_config(cls(vocab_size=len(tok), bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, **options)).eval()

@pytest.fixture(scope='module')
def tok(): return load_tokenizer(tiny_model())

def row(tok, n, seed=1): return torch.randint(0, len(tok), (n,), generator=torch.Generator().manual_seed(seed)).tolist()

@pytest.mark.parametrize('name', [o if o in fast else pytest.param(o, marks=pytest.mark.slow) for o in models])
def test_architecture(name, tok, tmp_path):
    "Exported by one route or the other, right when reading and when continuing, beyond a window too; then quantized and answering"
    model,out = toy(name, tok),tmp_path/'onnx'
    if name in refused:
        with pytest.raises(RecipeError, match=refused[name]): export_onnx(model, tok, out)
        return
    e = export_onnx(model, tok, out)
    print(f'{name}: {e.parity} by {e.why}')
    assert passes(e.parity) and e.route in ('builder', 'dynamo') and '\n' not in e.why
    assert_reads(Decoder(out), model, row(tok, reach(out)))
    assert_answers(out, model, row(tok, 20), tok)
    assert_quantizes(out, tmp_path, model, tok)

def reach(out):
    "A length beyond every edge of these models that the folder accepts"
    return min(EDGE + 30, Decoder(out).config['context_length'])

def assert_reads(decoder, model, ids):
    "A second row, other than those of the gate: half of it read, the rest token by token"
    with torch.inference_mode(): exact = model(torch.tensor([ids]), use_cache=False).logits[0].float()
    logits,past = decoder(ids[:len(ids)//2])
    parts = [logits[0]]
    for o in ids[len(ids)//2:]:
        logits,past = decoder([o], past)
        parts.append(logits[0])
    error = (exact - torch.cat([torch.as_tensor(o) for o in parts])).abs().max() / exact.abs().max()
    assert error < LOGITS_MAX

def assert_answers(out, model, ids, tok):
    "onnxruntime-genai says what PyTorch says"
    assert list(genai_tokens(open_genai(out), ids, 12)) == greedy_tokens(model, ids, 12, [tok.eos_token_id])

def assert_quantizes(out, tmp_path, model, tok):
    "Every layer and the head are found in the graph, with their Hessians, and the result runs"
    import onnx_ir as ir
    found = hessians(model, [row(tok, 40, i) for i in range(4)])
    quantize(out, tmp_path/'int8', Scheme(8, 32), found)
    graph = ir.load(tmp_path/'int8'/'model.onnx').graph
    products = [o.name for o in graph if o.op_type == 'MatMulNBits']
    assert HEAD in products and len({m[0] for o in products if (m := re.match(r'/model/layers\.\d+', o))}) == model.config.num_hidden_layers
    assert all(hessian_of(o, found) is not None for o in products), products
    assert any(o.op_type == 'GatherBlockQuantized' for o in graph) and size_mb(tmp_path/'int8') < size_mb(out)*.5
    assert len(list(genai_tokens(open_genai(tmp_path/'int8'), row(tok, 20), 4))) <= 4
    quantize(out, tmp_path/'int4', Scheme(4, 32, 'gptq'), found)
    assert Decoder(tmp_path/'int4')(row(tok, 20))[0].shape == (1, 20, len(tok))

def test_gate_reaches_beyond_the_window(tok):
    "A fault that begins at the window's end is looked for"
    config = toy('mistral-window', tok).config
    assert edge_of(config) == EDGE and max(map(len, gate_rows(config))) > EDGE
