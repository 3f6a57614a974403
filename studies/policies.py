"""The rules that the advice is held against in a backtest, and what each is called. Imports nothing."""

POLICIES = {
    "advice": "this advice",
    "always_fine_tune": "always fine-tuning",
    "always_scratch": "always from scratch",
    "below_5000": "fine-tuning below 5,000",
    "last_value": "the arm last ahead",
}
