"""Read a configuration with overrides by NeMo-RL's own module, and print it."""

import importlib.util
import json
import sys

from omegaconf import OmegaConf

code, config, *overrides = sys.argv[1:]
spec = importlib.util.spec_from_file_location("nemo_config", code)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.register_omegaconf_resolvers()
found = module.parse_hydra_overrides(module.load_config(config), overrides)
print(json.dumps(OmegaConf.to_container(found, resolve=True)))
