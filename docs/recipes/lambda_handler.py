"""A function of AWS Lambda that answers as an App does: behind a function URL, API Gateway or an ALB.

    pip install mangum

Two variables of the function say what it answers with: MODELKIT_PACKAGE, the path of the package
beside this file or in a layer, and MODELKIT_DIGEST, its digest. Lambda imports this file once in each
of its environments, so the package is opened once; with another digest no environment starts.
"""

import os

from mangum import Mangum

import modelkit as mk

model = mk.load(os.environ["MODELKIT_PACKAGE"], digest=os.environ["MODELKIT_DIGEST"])
handler = Mangum(mk.App({model.manifest.name: model}), lifespan="off")
