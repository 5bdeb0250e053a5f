r"""The course that the library implements, its blocks whole, and a notebook to run them in.

Microsoft, EdgeAI for Beginners, module 5, "Fine-Tuning". `here` puts local models and data in; nothing else is changed."""
import atexit, re, sys
from pathlib import Path
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
from slm_magic.recipe import tiny_data, tiny_model

finetune = r'''# Basic fine-tuning command
olive finetune \
  --model_name_or_path meta-llama/Llama-3.2-1B-Instruct \
  --trust_remote_code \
  --output_path models/llama/ft \
  --data_name xxyyzzz/phrase_classification \
  --text_template "<|start_header_id|>user<|end_header_id|>\n{phrase}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n{tone}" \
  --method lora \
  --max_steps 100 \
  --log_level 1
'''
auto_opt = r'''# Convert to ONNX format for optimized inference
olive auto-opt \
  --model_name_or_path models/llama/ft/model \
  --adapter_path models/llama/ft/adapter \
  --device cpu \
  --provider CPUExecutionProvider \
  --use_ort_genai \
  --output_path models/llama/onnx \
  --log_level 1
'''
config = r'''# olive-config.yaml
model:
  type: PyTorchModel
  config:
    model_path: "microsoft/DialoGPT-medium"
    task: "text-generation"

data_configs:
  - name: "custom_dataset"
    type: "HuggingfaceContainer"
    load_dataset_config:
      data_files: "path/to/your/dataset.json"
      split: "train"
    pre_process_data_config:
      text_template: "User: {input}\nAssistant: {output}"

passes:
  lora:
    type: LoRA
    config:
      r: 16
      lora_alpha: 32
      target_modules: ["c_attn", "c_proj"]
      modules_to_save: ["ln_f", "lm_head"]
'''
qlora = r'''# Fine-tune with QLoRA for better memory efficiency
olive finetune \
  --method qlora \
  --model_name_or_path meta-llama/Meta-Llama-3-8B \
  --data_name nampdn-ai/tiny-codes \
  --train_split "train[:4096]" \
  --eval_split "train[4096:4224]" \
  --text_template "### Language: {programming_language} \n### Question: {prompt} \n### Answer: {response}" \
  --per_device_train_batch_size 16 \
  --per_device_eval_batch_size 16 \
  --max_steps 150 \
  --logging_steps 50 \
  --output_path adapters/tiny-codes
'''
adapters = r'''# Train multiple LoRA adapters
olive finetune --method lora --task_name "classification" --output_path adapters/classifier
olive finetune --method lora --task_name "generation" --output_path adapters/generator

# Generate multi-adapter ONNX model
olive generate-adapter \
  --base_model_path models/base \
  --adapter_paths adapters/classifier,adapters/generator \
  --output_path models/multi-adapter
'''
monitoring = r'''# Enable detailed logging
olive finetune \
  --logging_steps 10 \
  --eval_steps 50 \
  --save_steps 100 \
  --logging_dir ./logs \
  --report_to tensorboard
'''
memory = r'''# Memory-efficient training
olive finetune \
  --method qlora \
  --gradient_checkpointing true \
  --per_device_train_batch_size 1 \
  --gradient_accumulation_steps 16
'''
search = r'''# hyperparameter-search.yaml
search_strategy:
  type: "random"
  num_trials: 20

search_space:
  learning_rate:
    type: "float"
    low: 1e-6
    high: 1e-3
    log: true
  
  lora_r:
    type: "int"
    low: 8
    high: 64
  
  batch_size:
    type: "choice"
    values: [8, 16, 32]
'''
regularization = r'''# Regularization techniques
passes:
  lora:
    type: LoRA
    config:
      r: 16  # Reduce rank to prevent overfitting
      lora_alpha: 16  # Lower alpha value
      lora_dropout: 0.1  # Add dropout
      weight_decay: 0.01  # L2 regularization
'''
performance = r'''# Performance optimization
training_config:
  fp16: true  # Mixed precision
  dataloader_num_workers: 4
  optim: "adamw_torch"
  lr_scheduler_type: "cosine"
'''
setup = r'''# Create a virtual environment
python -m venv olive-env
source olive-env/bin/activate  # On Windows: olive-env\Scripts\activate

# Install Olive with auto-optimization features
pip install olive-ai[auto-opt]
mkdir fine-tuning-project
huggingface-cli login  # If using private datasets
# Check Olive CLI is available
olive --help

# Verify installation
python -c "import olive; print('Olive installed successfully')"
'''
two_rows = r'''[
  {
    "input": "What is machine learning?",
    "output": "Machine learning is a subset of artificial intelligence that enables computers to learn and improve from experience without being explicitly programmed."
  },
  {
    "input": "Explain neural networks",
    "output": "Neural networks are computing systems inspired by biological neural networks that learn from data through interconnected nodes or neurons."
  }
]
'''
run_config = r'''# Run with custom configuration
olive run --config olive-config.yaml --setup
'''
custom_loss = r'''# custom_loss.py
import torch
import torch.nn as nn

class CustomContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super(CustomContrastiveLoss, self).__init__()
        self.margin = margin
        
    def forward(self, output1, output2, label):
        euclidean_distance = nn.functional.pairwise_distance(output1, output2)
        loss_contrastive = torch.mean((1-label) * torch.pow(euclidean_distance, 2) +
                                    (label) * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2))
        return loss_contrastive
'''

# rows whose lengths differ
uneven = [dict(prompt=' '.join(['word']*(1+7*(i%5)**2)), completion=' '.join(['yes no maybe']*(1+i%3*4))) for i in range(24)]

ids = {'meta-llama/Llama-3.2-1B-Instruct': tiny_model(), 'meta-llama/Meta-Llama-3-8B': tiny_model(), 'microsoft/DialoGPT-medium': 'dialo',
       'xxyyzzz/phrase_classification': tiny_data(), 'nampdn-ai/tiny-codes': 'tiny-codes.jsonl', 'path/to/your/dataset.json': 'dataset.json'}

def here(text, **options):
    "A block as one pastes it: `olive` → `%olive`, local ids put in, and `options` of each `finetune` added or changed"
    for old,new in ids.items(): text = text.replace(old, new)
    for k,v in options.items():
        text,n = re.subn(rf'--{k} \S+', f'--{k} {v}', text)
        if not n: text = text.replace('olive finetune', f'olive finetune --{k} {v}')
    return re.sub('^olive ', '%olive ', text, flags=re.M)

class Notebook:
    "A shell with the extension loaded: `nb(cell)` gives the cell's result, `nb.said` what it printed, `nb['x']` its variables"
    def __init__(self):
        self.shell,self.said = InteractiveShell(config=Config(HistoryManager=dict(enabled=False))),'' # what tests do is not for the user's history
        self.shell.run_line_magic('load_ext', 'slm_magic')

    def run_cell(self, cell):
        with capture_output() as out: res = self.shell.run_cell(cell)
        self.said = out.stdout + out.stderr + ''.join(o.data.get('text/plain', '') for o in out.outputs) # what is displayed is printed only where no other test has made IPython's one shell
        return res

    def __call__(self, cell):
        res = self.run_cell(cell)
        res.raise_error()
        return res.result

    def refuses(self, cell):
        "What is said to a bad cell: exactly UsageError (a subclass would be printed with a traceback), of at most three lines, with nothing written"
        before = sorted(Path().rglob('*'))
        error = self.run_cell(cell).error_in_exec
        assert type(error) is UsageError, repr(error)
        assert len(str(error).splitlines()) <= 3 and len(str(error)) < 900 and 'Traceback' not in self.said and not hasattr(sys, 'last_value')
        assert sorted(Path().rglob('*')) == before
        return str(error)

    def __getitem__(self, name): return self.shell.user_ns[name]
    def __setitem__(self, name, value): self.shell.user_ns[name] = value
    def close(self):
        self.shell.run_line_magic('unload_ext', 'slm_magic')
        atexit.unregister(self.shell.atexit_operations) # each would collect all garbage once more, when the tests are over
