"""A data set whose rows are processed in the workers of a DataLoader; spawned ones import it."""


class Rows:
    def __init__(self, image_processor, images):
        self.image_processor, self.images = image_processor, images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.image_processor(self.images[index], return_tensors="pt")["pixel_values"]
