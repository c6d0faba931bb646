import sys

from lora_syncer.program import main

sys.exit(main())
