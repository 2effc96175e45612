"""AWS Bedrock: Converse and InvokeModel.

Runs in: its provider replica.
Imports: as `providers`.
"""
