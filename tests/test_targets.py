"""What `%optimize` makes for which device, by which limits it chooses, and what it proves: as a user sees it, on small models of random weights."""
import json
import pytest
import torch
import transformers as tf
from slm_magic import RecipeError, finetune, optimize
from slm_magic.choice import PEERS
from slm_magic.export import LOGITS_MAX, CannotRun, save_source
from slm_magic.model import load_tokenizer
from slm_magic.quiet import quiet
from slm_magic.recipe import tiny_model
from slm_magic.targets import HALF_KL, HALF_MAX, TARGETS, build, check, find_target

@pytest.fixture(scope='module')
def tok(): return load_tokenizer(tiny_model())

@pytest.fixture(scope='module')
def llama(tok, tmp_path_factory):
    "A small Llama, and the folder it is saved in"
    torch.manual_seed(0)
    ids = dict(vocab_size=len(tok), bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**ids, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=.1, tie_word_embeddings=True)).eval()
    folder = tmp_path_factory.mktemp('llama')
    with quiet(): save_source(model, tok, folder)
    return model, folder

made = [(t.name, p) for t in TARGETS.values() if t.device == 'gpu' for p in t.precisions]
fast = ('cuda', 'fp16'), ('dml', 'fp32'), ('cuda', 'bf16')

@pytest.mark.parametrize('name,precision', [o if o in fast else pytest.param(*o, marks=pytest.mark.slow) for o in made])
def test_target(name, precision, llama, tmp_path):
    "A graph for every device and precision is written, names its provider, and gives PyTorch's logits wherever the CPU can run it"
    model,source = llama
    build(source, TARGETS[name], precision, tmp_path/'onnx')
    config = json.loads((tmp_path/'onnx'/'genai_config.json').read_text())
    assert [list(o) for o in config['model']['decoder']['session_options']['provider_options']] == [[TARGETS[name].builder or name]]
    try: found = check(tmp_path/'onnx', model, precision)
    except CannotRun as e:
        assert (name, precision) in cpu_cannot, e
        return
    assert (name, precision) not in cpu_cannot
    if precision in ('fp32', 'fp16'): assert found['prefill'] <= (HALF_MAX if precision == 'fp16' else LOGITS_MAX) and found['kl'] <= HALF_KL

cpu_cannot = {(o, 'fp32') for o in ('cuda', 'dml')} | {(o, 'bf16') for o in ('cuda', 'trt-rtx')} # onnxruntime's CPU provider has no kernels for these

@pytest.mark.parametrize('wish,words', [
    (dict(precision='fp16'), 'no fast arithmetic on a CPU'), (dict(precision='bf16', device='cpu'), 'cuda or trt-rtx'), (dict(provider='openvino'), 'Optimum Intel'), (dict(provider='qnn'), 'QAIRT'),
    (dict(provider='vitisai'), 'Quark'), (dict(device='npu'), 'qnn needs'), (dict(provider='dml', precision='int8'), 'it has fp32, fp16, int4'), (dict(provider='cuda', device='cpu'), 'leave one of them out'), (dict(provider='cud'), 'cuda')])
def test_refused(wish, words):
    "What cannot be made is refused in three lines at most, which name what can"
    with pytest.raises(RecipeError, match=words) as e: find_target(**wish)
    assert len(str(e.value).splitlines()) <= 3

def test_device_is_chosen():
    "Without a word it is a CPU where onnxruntime sees no GPU; a GPU that nobody sees is not guessed"
    import onnxruntime as ort
    if 'CUDAExecutionProvider' in ort.get_available_providers() and torch.cuda.is_available(): assert find_target().name == find_target(device='gpu').name == 'cuda'
    else: assert find_target().name == 'cpu'
    if not torch.cuda.is_available() and ort.get_available_providers()[-1:] == ['CPUExecutionProvider'] and len(ort.get_available_providers()) <= 2:
        with pytest.raises(RecipeError, match='--provider cuda, dml, webgpu, trt-rtx'): find_target(device='gpu')

@pytest.fixture(scope='module')
def run(tmp_path_factory): return finetune(max_steps=40, samples=0, name='tone', runs_dir=tmp_path_factory.mktemp('runs'), listeners=[])

def test_unproven_only_by_name(run, tmp_path):
    "A graph that cannot be run here is kept for whom names its provider, and marked in every form of the report"
    b = optimize(run, provider='dml', precision='fp32', output_path=tmp_path/'dml')
    assert b.report['proven'] == 'not here' and b.report['proof'] is None and b.report['tokens_per_s'] is None and [o['stage'] for o in b.report['stages']] == ['PyTorch', 'merged', 'ONNX fp32', 'fp32-dml']
    for said in repr(b), b._repr_html_(), (b.path/'report.md').read_text(): assert 'not proven here' in said
    assert b.report['stages'][2]['kl'] < 1e-6 # the graph for the CPU, by the same builder
    with pytest.raises(RecipeError, match='cannot be measured here'): optimize(run, provider='dml', min_tokens_per_s=1, output_path=tmp_path/'no')

@pytest.mark.slow
def test_limits_and_proof(run, tmp_path):
    "Each limit is kept; the report has the whole chain; rows that choose do not prove"
    all_of = optimize(run, output_path=tmp_path/'all')
    r,table = all_of.report,all_of.pareto.set_index('candidate')
    assert {'kl', 'size_mb', 'tokens_per_s', 'front', 'verdict'} <= set(table) and table.loc[PEERS, 'verdict'] == 'for comparison' and table.verdict.eq('chosen').sum() == 1
    assert [o['stage'] for o in r['stages']] == ['PyTorch', 'merged', 'ONNX fp32', r['chosen']] and r['splits']['choose'] + r['splits']['prove'] <= len(run.eval_examples)
    first,merged,_,last = r['stages']
    assert {'kl', 'kl_se', 'top1', 'greedy', 'delta_nll', 'delta_nll_upper', 'size_mb', 'tokens_per_s', 'prefill_tokens_per_s', 'peak_memory_mb', 'accuracy'} <= last.keys()
    assert {'tokens_per_s', 'prefill_tokens_per_s', 'accuracy'} <= first.keys() and 0 < last['peak_memory_mb'] < merged['peak_memory_mb']
    own = table.drop(PEERS)
    bound = own.size_mb.sort_values().iloc[1] + .01
    small = optimize(run, precision='int4', max_size=bound, max_kl=.005, output_path=tmp_path/'small').report
    assert small['size_mb'] <= bound and small['proof']['kl'] <= .005
    for limits,words in (dict(max_size=.5), r'Nearest is int8[\s\S]*--max_size 3\.8;'), (dict(max_kl=1e-8), r'Nearest is int8[\s\S]*--max_kl'), (dict(min_tokens_per_s=1e7), r'--min_tokens_per_s \d+'):
        with pytest.raises(RecipeError, match=words) as e: optimize(run, precision='int8', **limits, output_path=tmp_path/'none')
        assert len(str(e.value).splitlines()) <= 3 and not (tmp_path/'none').exists()

people,towns = 'Ana Boris Carla Deniz Emil'.split(),'Lisbon Oslo Quito Riga Seoul Tunis'.split()
tables = {'sequence-classification': [dict(text=f'{w} thing {i}', label=l) for i in range(40) for w,l in (('good', 'yes'), ('bad', 'no'))],
          'token-classification': [dict(tokens=[a, 'lives', 'in', b], ner_tags=['B-PER', 'O', 'O', 'B-LOC']) for a in people for b in towns]}
asked = ['good day', 'Emil lives in Quito', 'a bad thing that nobody wants']
encoders = dict(bert=(tf.BertConfig, tf.BertForMaskedLM), roberta=(tf.RobertaConfig, tf.RobertaForMaskedLM), distilbert=(tf.DistilBertConfig, tf.DistilBertForMaskedLM), modernbert=(tf.ModernBertConfig, tf.ModernBertForMaskedLM))

@pytest.mark.parametrize('kind,task', [pytest.param(k, t, marks=() if (k, t) == ('bert', 'token-classification') else pytest.mark.slow) for k in (*encoders, 'llama') for t in tables if (k, t) != ('llama', 'token-classification')])
def test_classifier(kind, task, tok, tmp_path):
    "Classes of texts and of words, from encoders and from a language model with a head: ONNX in eight bits that gives the labels of the run"
    model = None if kind == 'llama' else tmp_path/'encoder'
    if model:
        cls,auto = encoders[kind]
        torch.manual_seed(0)
        sizes = dict(dim=64, hidden_dim=128, n_layers=2, n_heads=4) if kind == 'distilbert' else dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
        with quiet(): save_source(auto(cls(vocab_size=len(tok), pad_token_id=tok.pad_token_id, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, max_position_embeddings=130, **sizes)), tok, model)
    run = finetune(model and str(model), tables[task], task=task, learning_rate=3e-3, max_steps=30, eval=.4, samples=0, name='classes', runs_dir=tmp_path, listeners=[])
    b = optimize(run, precision='int8')
    r = b.report
    assert b.predict(asked) == run.generate(asked) and b.predict(asked[0]) == run.generate(asked[0])
    assert r['proof']['top1'] >= .99 and r['chosen'].startswith('int') and r['size_mb'] < r['stages'][0]['size_mb'] and [o['stage'] for o in r['stages']] == ['PyTorch', 'merged', 'ONNX fp32', r['chosen']]
    assert 'int8-dynamic' in set(b.pareto.candidate) and r['stages'][-1][r['metrics'][0]] >= r['stages'][0][r['metrics'][0]] - .05
    with pytest.raises(RecipeError, match='predict'): b.generate('x')
    assert optimize(run, precision='fp32').report['chosen'] == 'fp32' # over the bundle that was there

def test_language_model_predicts_classes(run, tmp_path):
    "The likeliest class, as the scores of a run take it"
    from slm_magic.evaluate import likeliest
    from slm_magic.predict import choices
    b = optimize(run, precision='int8', output_path=tmp_path/'onnx')
    texts = [o['phrase'] for o in run.eval_examples.rows[:20]]
    exact = [likeliest(o, run.labels)[0] for o in choices(run.model, run.tokenizer, [run.prompt(o) for o in texts], run.labels)]
    assert sum(a == b for a,b in zip(b.predict(texts), exact)) >= 19

def test_magic_takes_the_names_of_onnxruntime(nb):
    "By the magic, with a short name or onnxruntime's; a refusal is one to three lines"
    for line,words in ('--provider QNNExecutionProvider', 'QAIRT'), ('--provider NvTensorRTRTXExecutionProvider --precision fp32', 'trt-rtx'), ('--provider cudnn', "'cuda'"), ('--precision fp16', '--provider'):
        assert words in nb.refuses(f'%optimize nosuchrun {line}')
