"""Architectures, each tiny with random weights: an ONNX folder that computes what PyTorch computes and answers in onnxruntime-genai,
or a line that says why there is none."""
import re
import pytest
import torch
import transformers as tf
from nbformat import read
from kernel import root
from slm_magic import RecipeError
from slm_magic.decoder import Decoder, size_mb
from slm_magic.export import LOGITS_MAX, edge_of, export_onnx, gate_rows, passes
from slm_magic.model import load_tokenizer
from slm_magic.prove import genai_tokens, greedy_tokens, open_genai
from slm_magic.calibration import calibrate, seen_by
from slm_magic.graph import HEAD
from slm_magic.quantize import Scheme, quantize
from slm_magic.recipe import tiny_model

# the list is the tutorial's
listed = next(c.source for c in read(root/'nbs/tutorials/export.ipynb', as_version=4).cells if 'models = {' in c.source)
exec(listed, space := dict(tf=tf))
models,EDGE = space['models'],space['EDGE']
refused = {'Mamba': 'keeps no keys and values', 'Mixtral': "has no ONNX export(.|\\n)*PyTorch's ONNX exporter failed: DispatchError"} # models that end with this line
fast = 'Llama', 'Gemma 3', 'GPT-2', 'Mistral, sliding window'

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
    assert list(genai_tokens(open_genai(out), ids, 12)) == greedy_tokens(model, [ids], 12, [tok.eos_token_id])[0]

def assert_quantizes(out, tmp_path, model, tok):
    "Every layer and the head are found in the graph, with their Hessians, and the result runs"
    import onnx_ir as ir
    found,_ = calibrate(model, [row(tok, 40, i) for i in range(4)])
    quantize(out, tmp_path/'int8', Scheme(8, 32), found)
    graph = ir.load(tmp_path/'int8'/'model.onnx').graph
    products = [o.name for o in graph if o.op_type == 'MatMulNBits']
    assert HEAD in products and len({m[0] for o in products if (m := re.match(r'/model/layers\.\d+', o))}) == model.config.num_hidden_layers
    assert all(seen_by(o, found) for o in products), products
    assert any(o.op_type == 'GatherBlockQuantized' for o in graph) and size_mb(tmp_path/'int8') < size_mb(out)*.5
    assert len(list(genai_tokens(open_genai(tmp_path/'int8'), row(tok, 20), 4))) <= 4
    quantize(out, tmp_path/'int4', Scheme(4, 32, 'gptq'), found)
    assert Decoder(tmp_path/'int4')(row(tok, 20))[0].shape == (1, 20, len(tok))

def test_gate_reaches_beyond_the_window(tok):
    "A fault that begins at the window's end is looked for"
    config = toy('Mistral, sliding window', tok).config
    assert edge_of(config) == EDGE and max(map(len, gate_rows(config))) > EDGE

@pytest.mark.slow
@pytest.mark.parametrize('name', ['OLMo 2', 'GPT-NeoX'])
def test_adapters(name, tok, tmp_path):
    "A graph of PyTorch's exporter takes adapters at run time as the builder's does, or says that it cannot"
    from peft import LoraConfig, get_peft_model
    from slm_magic.adapters import add_adapters
    base = toy(name, tok)
    assert export_onnx(base, tok, tmp_path/'onnx').route == 'dynamo'
    model = get_peft_model(base, LoraConfig(r=4, target_modules='all-linear', init_lora_weights=False)).eval()
    if name == 'GPT-NeoX':
        with pytest.raises(RecipeError, match='merge it'): add_adapters(tmp_path/'onnx', tmp_path/'open', model)
        return
    file, = add_adapters(tmp_path/'onnx', tmp_path/'open', model)
    ids = row(tok, 40)
    assert_reads(Decoder(tmp_path/'open', adapter=file), model, ids)
    with model.disable_adapter(): assert_reads(Decoder(tmp_path/'open'), model, ids)

def test_a_wrong_graph_leaves_nothing(tok, tmp_path):
    "Neither a folder, nor a trace of one, nor a scratch on the export that was there"
    model = toy('GPT-2', tok)
    (tmp_path/'onnx').mkdir()
    (tmp_path/'onnx'/'genai_config.json').write_text('an earlier export')
    class Fraud(type(model)):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            if torch.compiler.is_exporting(): out.logits = -out.logits
            return out
    fraud = Fraud(model.config).eval()
    with pytest.raises(RecipeError, match="the graph of PyTorch's ONNX exporter computes something else"): export_onnx(fraud, tok, tmp_path/'onnx')
    assert [o.name for o in tmp_path.rglob('*')] == ['onnx', 'genai_config.json'] and (tmp_path/'onnx'/'genai_config.json').read_text() == 'an earlier export'
