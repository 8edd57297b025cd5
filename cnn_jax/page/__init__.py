"""Makes one HTML file of a run, in which its network runs in the reader's browser.

`tracing` turns the model into a list of plain operations, `program` and `translations` write them
down, `steps` says which of their results are shown, `weights` packs the parameters, `contents`
gathers what the file holds and `frame` writes it. The JavaScript and CSS beside these modules are
joined when the file is written; `engine.js` computes the operations.
"""
