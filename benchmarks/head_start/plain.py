"What people do without this library: `Trainer`, peft and a head from random"

import tempfile

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from fine_tune_llm.models import find_model


class Rows(torch.utils.data.Dataset):
    def __init__(self, tokenizer, part, longest):
        texts, self.labels = part
        self.tokens = tokenizer(list(texts), truncation=True, max_length=longest)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        item = {name: values[row] for name, values in self.tokens.items()}
        return item | {"labels": int(self.labels[row])}


def plain_trainer(model, roles, *, seed, longest):
    "Logits of validation and test after three epochs at 2e-3, r=16, float32"
    set_seed(seed)
    folder = find_model(model).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(roles.classes)
    )
    adapter = LoraConfig(
        task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules="all-linear"
    )
    net = get_peft_model(net, adapter)
    rows = {r: Rows(tokenizer, roles.part(r), longest) for r in roles.texts}
    with tempfile.TemporaryDirectory() as there:
        arguments = TrainingArguments(
            output_dir=there,
            num_train_epochs=3,
            learning_rate=2e-3,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            eval_strategy="epoch",
            save_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        trainer = Trainer(
            net,
            arguments,
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=rows["train"],
            eval_dataset=rows["validation"],
        )
        trainer.train()
        said = [
            trainer.predict(rows[role]).predictions for role in ("validation", "test")
        ]
    return [np.asarray(scores, dtype=np.float64) for scores in said]
