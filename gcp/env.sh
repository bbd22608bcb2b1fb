# shellcheck shell=bash disable=SC2034
# Settings of the scripts in this folder. Edit them here or set them in the environment, which wins.

# These three must be set.
: "${PROJECT:=}" # Google Cloud project
: "${ZONE:=}"    # a zone that has the TPU type, such as us-west4-a
: "${BUCKET:=}"  # a bucket in the zone's region

# The TPU.
: "${TPU_NAME:=bertjax}"                    # of the queued resource and of its node
: "${ACCELERATOR_TYPE:=v5litepod-16}"       # what `bertjax plan` calls v5e:4x4; 4 hosts with 4 chips each
: "${RUNTIME_VERSION:=v2-alpha-tpuv5-lite}" # v6e: v2-alpha-tpuv6e, v5p: v2-alpha-tpuv5, v4: tpu-ubuntu2204-base
: "${PROVISIONING:=spot}"                   # spot (cheaper, can be taken away) or on-demand
: "${QUEUE_LIMIT:=6h}"                      # a request that waits longer than this for a TPU fails
: "${SERVICE_ACCOUNT:=}"                    # email of the account that the TPU acts as; empty: the project's default
: "${CREATE_FLAGS:=}"                       # more flags of `gcloud compute tpus queued-resources create`
: "${SSH_FLAGS:=}"                          # more flags of `gcloud compute tpus tpu-vm ssh` and `scp`

# What is installed.
: "${WHEEL:=}"                              # empty: `make wheel` builds it
: "${CONSTRAINTS:=$root/constraints.txt}"
: "${EXTRAS:=tpu,gcs}"                      # extras of bertjax, commas between
: "${PYTHON_VERSION:=3.11}"                 # the one that constraints.txt was tested with
: "${DATA_DIR:=}"                           # a local folder that the workers get as `data`; empty: none

# Where things go.
BUCKET=${BUCKET#gs://}
: "${RUN_DIR:=gs://$BUCKET/$TPU_NAME}"      # run directory of a command without --run-dir
: "${LOG_DIR:=gs://$BUCKET/$TPU_NAME-logs}" # a log for each worker
: "${FETCH_DIR:=runs/$TPU_NAME}"            # local folder for results and logs

# Patience.
: "${POLL_SECONDS:=60}"                     # between two looks at the TPU or the job
: "${RETRY_SECONDS:=60}"                    # before what failed is tried again; doubles each time, up to 32 times this
: "${RETRIES:=10}"                          # of what failed for a reason that may pass, such as quota
: "${LOCK_SECONDS:=360}"                    # a run directory in use for longer than this is a failure; above 300
