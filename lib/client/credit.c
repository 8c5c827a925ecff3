/* Credit: no more under way than the daemon has said it takes. */
#include "base/clock.h"
#include "client/exchange.h"

#include <stdlib.h>
#include <string.h>

struct attnd_account *credit_account(struct attnd_client *client, uint64_t stream, const struct shape *shape,
                                     const uint64_t *next_token)
{
    size_t n = shape->n_layers;
    struct attnd_account *account = calloc(1, sizeof *account);
    uint64_t *indices = malloc(3 * n * sizeof *indices);
    if (!account || !indices) {
        free(account);
        free(indices);
        return NULL;
    }
    *account = (struct attnd_account){.of_client = true,
                                      .of_stream = true,
                                      .id = stream,
                                      .n_layers = n,
                                      .reply_row = shape->heads * (shape->value_dim + 1) * sizeof(float),
                                      .confirmed = indices,
                                      .told = indices + n,
                                      .gone = indices + 2 * n,
                                      .next = client->accounts};
    memcpy(account->confirmed, next_token, n * sizeof *indices);
    memcpy(account->told, next_token, n * sizeof *indices);
    memset(account->gone, 0, n * sizeof *indices);
    client->accounts = account;
    return account;
}

static void leave(struct attnd_account *account, bool *side)
{
    *side = false;
    if (account->of_client || account->of_stream)
        return;
    free(account->confirmed);
    free(account);
}

void credit_leave_stream(struct attnd_account *account)
{
    if (account)
        leave(account, &account->of_stream);
}

void credit_leave_client(struct attnd_client *client)
{
    while (client->accounts) {
        struct attnd_account *account = client->accounts;
        client->accounts = account->next;
        leave(account, &account->of_client);
    }
}

static size_t pending(const struct attnd_account *account, uint32_t layer)
{
    uint64_t confirmed = account->confirmed[layer], told = account->told[layer];
    return confirmed > told ? (size_t)(confirmed - told) * account->reply_row : 0;
}

void credit_received(struct attnd_client *client, struct attnd_account *account, uint32_t layer, uint64_t upto)
{
    client->kept -= pending(account, layer);
    account->confirmed[layer] = upto;
    client->kept += pending(account, layer);
}

void credit_told(struct attnd_client *client, struct attnd_account *account, uint32_t layer)
{
    client->kept -= pending(account, layer);
    account->told[layer] = account->confirmed[layer];
    if (account->gone[layer] < account->told[layer])
        account->gone[layer] = account->told[layer];
}

void credit_not_kept(struct attnd_client *client, struct attnd_account *account, uint32_t layer, uint64_t first, uint64_t end)
{
    uint64_t confirmed = account->confirmed[layer], gone = account->gone[layer] < end ? account->gone[layer] : end;
    if (first <= confirmed && confirmed < gone)
        credit_received(client, account, layer, gone);
}

void credit_request(struct control_request *request, const struct attnd_account *account)
{
    request->op = CONTROL_CONFIRM;
    request->stream = account->id;
    request->n_layers = account->n_layers;
    memcpy(request->received, account->confirmed, account->n_layers * sizeof *request->received);
}

static int tell(struct attnd_client *client, struct attnd_account *account, double deadline, struct fault *fault)
{
    struct control_request *request = calloc(1, sizeof *request);
    char *text = NULL;
    if (request) {
        credit_request(request, account);
        request->id = ++client->n_controls;
        text = control_encode_request(request);
        free(request);
    }
    zmq_msg_t frame;
    if (!text || zmq_msg_init_size(&frame, strlen(text))) {
        free(text);
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
    }
    memcpy(zmq_msg_data(&frame), text, strlen(text));
    free(text);
    for (uint32_t l = 0; l < account->n_layers; l++)
        credit_told(client, account, l);
    return exchange_send(client, &frame, 1, deadline, fault); /* nobody waits for the answer */
}

/* Tells of every stream what has arrived of it, and forgets the accounts of those that are gone. */
static int tell_all(struct attnd_client *client, double deadline, struct fault *fault)
{
    int err = 0;
    for (struct attnd_account **at = &client->accounts, *account; !err && (account = *at);) {
        size_t bytes = 0;
        for (uint32_t l = 0; l < account->n_layers; l++)
            bytes += pending(account, l);
        if (!account->of_stream) {
            client->kept -= bytes;
            *at = account->next;
            leave(account, &account->of_client);
            continue;
        }
        if (bytes)
            err = tell(client, account, deadline, fault);
        at = &account->next;
    }
    return err;
}

int credit_wait(struct attnd_client *client, size_t bytes, double deadline, struct fault *fault)
{
    int err = 0, control;
    while (!err && client->credit && !client->past_credit && client->under_way + client->kept + bytes > client->credit &&
           client->under_way + client->kept > 0) {
        if (client->under_way && (client->kept == 0 || client->under_way + bytes > client->credit))
            err = exchange_receive(client, deadline, &control, fault);
        else
            err = tell_all(client, deadline, fault);
    }
    return err;
}
