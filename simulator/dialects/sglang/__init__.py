"""SGLang: its command line, its metrics, and what its API has beside OpenAI's."""
