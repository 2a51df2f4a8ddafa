"""What the help of commands ends with; tests run every line in a folder that has these files."""

EXAMPLES = """\
modelkit inspect churn.mk
modelkit schema churn.mk
modelkit schema churn.mk --json
modelkit diff churn.mk new.mk
modelkit predict churn.mk rows.csv
modelkit predict churn.mk customers.csv --id customer --output answers.parquet
modelkit predict registry:churn@champion rows.jsonl --registry models --format jsonl
modelkit embed encoder.mk texts.csv --id key --output vectors.parquet
modelkit explain churn.mk rows.csv --row 3 --output why.html
modelkit explain churn.mk customers.csv --id customer --output why.parquet
modelkit drift churn.mk today.csv
modelkit drift churn.mk today.parquet --reference past.parquet --output drift.html
modelkit evaluate churn.mk test.csv --label churned
modelkit evaluate churn.mk test.parquet --label churned --slice region --output page.html
modelkit gate new.mk test.csv --champion churn.mk --label churned --margin 0.02 --output gate.xml
modelkit gate new.mk test.csv --champion registry:churn@champion --registry models --label churned --margin 0.02
modelkit bench churn.mk
modelkit doctor
modelkit doctor churn.mk
modelkit sign churn.mk --key release.pem
modelkit verify churn.mk --key release.pub
modelkit card churn.mk
modelkit card churn.mk --format cyclonedx
modelkit export docker churn.mk --output image
modelkit export --check image
modelkit export grafana --output monitoring
modelkit export docker churn.mk --output docker
modelkit export kubernetes churn.mk --output kubernetes
modelkit registry models list
modelkit registry models show churn@champion
modelkit registry models register new.mk
modelkit registry models alias churn@trial 1.0.0 --expected none --reason tried
modelkit registry models retire churn@0.9.0 --reason 'trained on wrong rows'
modelkit registry models keep churn@1.0.0 report.html
modelkit registry models history churn
modelkit registry models fetch churn@champion --output here
modelkit registry models page --output registry.html
modelkit rollout models start churn@1.1.0 --stage 0.05:1h:500 --stage 0.5:1d --reason tried
modelkit rollout models status churn
modelkit rollout models outcome churn losses.csv
modelkit rollout models promote churn --reason 'seen enough'
modelkit rollout models rollback churn --reason 'seen enough'
modelkit retrain models status churn
modelkit retrain models history churn
modelkit seal churn.mk --to scoring=scoring.pub --output sealed.mk
modelkit audit verify audit
modelkit serve churn.mk --port 8080
modelkit serve churn --registry models --workers 2
modelkit completion bash
"""
