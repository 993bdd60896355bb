"""Detection by fine-tuning: Faster R-CNN on an encoder, trained on VOC or COCO and scored.

`run.detect` trains and scores; `config` holds the named protocols, `model` puts an encoder's weights into a
detector, `data` reads pictures with boxes, `training` takes the steps, `scoring` turns boxes into numbers.
"""
