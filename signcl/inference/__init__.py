"""What a trained run does with clips: translate, recognise, extract, align, measure density."""
