"""Makes the bundled model: trains its tokenizer and pre-trains a small Llama on the text of `make_text.py`.

    python pretrain.py [FOLDER]    # default: model/ beside this file; about 20 minutes on two cores

Seeds are fixed and the data is generated, so the same machine and versions give the same model.
"""
import json, math, sys, time
from pathlib import Path
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from slm_magic.template import CHAT_TEMPLATE
from slm_magic.assets.make_text import documents, tone_rows

here = Path(__file__).parent
specials = ['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>', '<|finetune_right_pad_id|>']
length,batch,epochs,peak = 256,16,2,3e-3

def chat(turns): return [m for q,a in turns for m in (dict(role='user', content=q), dict(role='assistant', content=a))]

def make_tokenizer(texts):
    "Byte-level BPE of 2,048 entries, with Llama 3's special tokens and chat template."
    t = Tokenizer(models.BPE())
    t.pre_tokenizer,t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=2048, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.post_processor = processors.TemplateProcessing(single='<|begin_of_text|> $A', pair='<|begin_of_text|> $A $B', special_tokens=[('<|begin_of_text|>', 0)])
    res = PreTrainedTokenizerFast(tokenizer_object=t, bos_token='<|begin_of_text|>', eos_token='<|eot_id|>', pad_token='<|finetune_right_pad_id|>', model_max_length=1024)
    res.chat_template = CHAT_TEMPLATE
    return res

def tokens_of(tok, docs):
    "All documents after another, cut into rows of `length` tokens."
    texts = ['<|begin_of_text|>' + d + '<|end_of_text|>' if isinstance(d, str) else tok.apply_chat_template(chat(d), tokenize=False) for d in docs]
    ids = [i for o in tok(texts, add_special_tokens=False)['input_ids'] for i in o]
    n = len(ids)//length
    return torch.tensor(ids[:n*length]).view(n, length)

def config(tok):
    "3.9 million parameters."
    return LlamaConfig(vocab_size=len(tok), hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=1024, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)

def pretrain(model, rows, held_out):
    "AdamW with warm-up and cosine decay over `epochs` passes; yields (step, training loss, held-out loss)."
    opt = torch.optim.AdamW(model.parameters(), lr=peak, betas=(.9, .95), weight_decay=.1)
    steps = epochs*(len(rows)//batch)
    order = torch.cat([torch.randperm(len(rows))[:len(rows)//batch*batch] for _ in range(epochs)]).view(-1, batch)
    for step,idx in enumerate(order):
        lr = peak*min(1, (step+1)/100)*(.05 + .95*(1+math.cos(math.pi*step/steps))/2)
        for g in opt.param_groups: g['lr'] = lr
        loss = model(input_ids=rows[idx], labels=rows[idx]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        opt.step()
        opt.zero_grad()
        if step%100 == 0 or step == steps-1:
            with torch.no_grad(): yield step, loss.item(), model(input_ids=held_out, labels=held_out).loss.item(), steps

card = '''---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [tiny, synthetic]
---
# The bundled tiny model

A Llama of {parameters:,} parameters, pre-trained on {tokens:,} tokens of generated text ({epochs} passes) by `pretrain.py`. The text is a
small world of people, things, feelings and facts, made by `make_text.py` from `lexicon.yaml`. It exists so that fine-tuning, evaluation and
export can be tried at once and offline. Held-out loss: {loss:.3f} (perplexity {ppl:.2f}). It knows no more than its small world.
'''

if __name__ == '__main__':
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else here/'model'
    start = time.time()
    docs = documents(avoid=[o['phrase'] for o in tone_rows()])
    texts = [d if isinstance(d, str) else '\n'.join(s for t in d for s in t) for d in docs]
    tok = make_tokenizer(texts)
    rows = tokens_of(tok, docs)
    print(f'{len(docs):,} documents, {rows.numel():,} tokens, {time.time()-start:.0f} s', flush=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config(tok))
    for step,loss,held,steps in pretrain(model, rows[64:], rows[:64]): print(f'step {step}/{steps}: loss {loss:.3f}, held out {held:.3f}, {time.time()-start:.0f} s', flush=True)
    model.half().save_pretrained(out)
    tok.save_pretrained(out)
    (out/'README.md').write_text(card.format(parameters=model.num_parameters(), tokens=rows.numel(), epochs=epochs, loss=held, ppl=math.exp(held)), encoding='utf-8')
